//! Several ranks train what one process trains, may become more or fewer, and say which of them is missing or does something else.

use super::*;
use crate::Error;
use crate::autoencoder::{Architecture, Weights};
use crate::fixture;
use crate::store::Store;
use crate::store::stream::{StoreRows, Stream};
use crate::train::feature_share::FeatureShare;
use crate::train::{Session, TrainConfig, checkpoint};
use burn::tensor::Device;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The relative difference of weights and losses that several ranks may have, because they add in another order.
const TOLERANCE: f64 = 2e-4;

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn rendezvous(rank: usize, count: usize, address: &str) -> Rendezvous {
    Rendezvous { rank, count, address: address.into(), timeout: Duration::from_secs(20) }
}

/// What every rank returns.
fn together<T: Send>(count: usize, run: impl Fn(Arc<dyn Ranks>) -> T + Sync) -> Vec<T> {
    let address = free_address();
    std::thread::scope(|scope| {
        let (run, address) = (&run, &address);
        let rank = |rank| {
            scope.spawn(move || {
                run(Arc::new(TcpRanks::connect(&rendezvous(rank, count, address), b"", &mut || Ok(())).unwrap()))
            })
        };
        let ranks: Vec<_> = (0..count).map(rank).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Configurations in which every exchange takes place: 25 features, so that shares have different sizes, dead ones, revivals, both
/// dense and sparse steps, a gradient that is clipped.
fn configs() -> impl Iterator<Item = TrainConfig> {
    let small = |arch| {
        let defaults = TrainConfig::for_architecture(arch);
        let features = TrainConfig { features: 25, k: 3, batch: 32, lr: 3e-3, buffer: 200, clip: 1.0, ..defaults };
        let sparse =
            TrainConfig { l1_coefficient: 0.2, l0_coefficient: 0.05, bandwidth: 0.3, threshold: 0.05, ..features };
        TrainConfig { dead_window_steps: 2, resample_every_steps: 7, subtract_b_dec: true, ..sparse }.with_steps(12)
    };
    let many = TrainConfig { k: 12, aux_relative: true, ..small(Architecture::BatchTopK) };
    let often = TrainConfig { random_prefixes: 3, ..small(Architecture::Matryoshka) };
    let two_models = TrainConfig { models: 2, features: 25, k: 3, ..TrainConfig::crosscoder(2) };
    let two_models = TrainConfig { batch: 32, buffer: 200, ..two_models }.with_steps(12);
    let transcoder = TrainConfig { d_out: 2, skip: true, ..small(Architecture::Gated).transcoder() };
    Architecture::ALL.map(small).into_iter().chain([many, often, two_models, transcoder])
}

fn session<'a>(store: &'a Store, config: &TrainConfig, device: &Device, ranks: Arc<dyn Ranks>) -> Session<'a> {
    let rows = StoreRows::new(store, config.exclude, config.seed).unwrap();
    let stream = Stream::new(rows, config.buffer, config.seed).unwrap();
    Session::with_ranks(stream, std::slice::from_ref(config), None, device, ranks).unwrap()
}

fn train(store: &Store, config: &TrainConfig, ranks: Arc<dyn Ranks>, folder: &Path, until: u64) -> (Vec<f64>, Weights) {
    train_on(&Device::flex(), store, config, ranks, folder, until)
}

/// Trains until this step, from the newest checkpoint of the folder, and writes one. Returns the losses and the weights.
fn train_on(
    device: &Device,
    store: &Store,
    config: &TrainConfig,
    ranks: Arc<dyn Ranks>,
    folder: &Path,
    until: u64,
) -> (Vec<f64>, Weights) {
    let mut session = session(store, config, device, ranks);
    if let Some(path) = checkpoint::newest(folder) {
        checkpoint::read(&path, &mut session).unwrap();
    }
    let mut losses = Vec::new();
    while session.steps() < until {
        losses.push(session.step().unwrap()[0].loss);
    }
    checkpoint::write(folder, &session).unwrap();
    (losses, session.trainers()[0].weights().unwrap())
}

fn assert_close(what: &str, found: &Weights, expected: &Weights) {
    for (found, expected) in [
        (&found.w_enc, &expected.w_enc),
        (&found.w_dec, &expected.w_dec),
        (&found.b_enc, &expected.b_enc),
        (&found.b_dec, &expected.b_dec),
    ] {
        let most = expected.iter().fold(0.1f32, |most, v| most.max(v.abs()));
        let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(found.len() == expected.len() && f64::from(apart / most) < TOLERANCE, "{what}: {apart} of {most}");
    }
}

#[test]
fn three_ranks_train_what_one_process_trains() {
    let (_dir, store) = fixture::store(6);
    for (n, config) in configs().enumerate() {
        let what = format!("{:?}, configuration {n}", config.arch);
        let folder = || tempfile::tempdir().unwrap();
        let (losses, expected) = train(&store, &config, Arc::new(SingleProcess), folder().path(), 12);
        let (shared, again) = (folder(), folder());
        let three = together(3, |rank| train(&store, &config, rank, shared.path(), 12));
        assert!(three.iter().all(|rank| *rank == three[0]), "{what}: all ranks have the same bytes");
        assert_eq!(three, together(3, |rank| train(&store, &config, rank, again.path(), 12)), "{what}: each time");
        for (found, expected) in three[0].0.iter().zip(&losses) {
            assert!((found / expected - 1.0).abs() < TOLERANCE, "{what}: {found} and {expected}");
        }
        assert_close(&what, &three[0].1, &expected);
    }
}

/// Of a GPU, whose product is in a narrow type, every rank has the features of its share alone.
#[cfg(feature = "gpu")]
#[test]
fn three_ranks_train_what_one_process_trains_on_a_gpu() {
    let (_dir, store) = fixture::store(6);
    for device in crate::device::DeviceChoice::found() {
        for config in configs().filter(|config| config.is_topk() && config.models == 1 && !config.is_transcoder()) {
            let what = format!("{:?}", config.arch);
            let (folder, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (losses, expected) = train_on(&device, &store, &config, Arc::new(SingleProcess), folder.path(), 9);
            let train = |ranks, until| train_on(&device, &store, &config, ranks, shared.path(), until);
            // One process continues what three have begun: a checkpoint has all features.
            let three = together(3, |ranks| train(ranks, 8));
            assert!(three.iter().all(|rank| *rank == three[0]), "{what}: all ranks have the same bytes");
            let (last, found) = train(Arc::new(SingleProcess), 9);
            for (found, expected) in three[0].0.iter().chain(&last).zip(&losses) {
                assert!((found / expected - 1.0).abs() < TOLERANCE, "{what}: {found} and {expected}");
            }
            assert_close(&what, &found, &expected);
        }
        let learned = configs().find(|config| config.arch == Architecture::JumpRelu).unwrap();
        let rejected = together(2, |ranks| {
            let rows = StoreRows::new(&store, learned.exclude, learned.seed).unwrap();
            let stream = Stream::new(rows, learned.buffer, learned.seed).unwrap();
            let session = Session::with_ranks(stream, std::slice::from_ref(&learned), None, &device, ranks);
            session.err().map(|error| error.to_string()).unwrap_or_default()
        });
        assert!(rejected[0].contains("several processes can only train topk"), "{rejected:?}");
    }
}

#[cfg(feature = "gpu")]
#[test]
fn a_cpu_beside_a_gpu_is_rejected_on_a_gpu() {
    for gpu in crate::device::DeviceChoice::found() {
        let address = free_address();
        let rejected = std::thread::scope(|scope| {
            let connect = |rank: usize, device: &Device, timeout: Duration| {
                let rendezvous = Rendezvous { timeout, ..rendezvous(rank, 2, &address) };
                super::connect(&rendezvous, b"k = 16", device, &mut || Ok(())).err().map(|error| error.message())
            };
            let first = scope.spawn(move || connect(0, &gpu, Duration::from_secs(1)));
            let second = connect(1, &Device::flex(), Duration::from_secs(20));
            [first.join().unwrap(), second]
        });
        for rejected in rejected {
            let rejected = rejected.unwrap();
            assert!(rejected.contains("expected device = ") && rejected.contains("found device = cpu"), "{rejected}");
        }
    }
}

#[test]
fn a_checkpoint_is_continued_by_another_number_of_ranks() {
    let (_dir, store) = fixture::store(6);
    for config in configs() {
        let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (_, expected) = train(&store, &config, Arc::new(SingleProcess), whole.path(), 12);
        together(3, |rank| train(&store, &config, rank, cut.path(), 4));
        together(2, |rank| train(&store, &config, rank, cut.path(), 9));
        let (_, found) = train(&store, &config, Arc::new(SingleProcess), cut.path(), 12);
        assert_close(&format!("{:?}", config.arch), &found, &expected);
    }
}

#[test]
fn a_rank_that_ends_is_named_by_the_others() {
    let sums = together(3, |ranks| {
        let mut values = vec![1.0; 300_000];
        ranks.all_reduce(&mut values).unwrap();
        assert!(values.iter().all(|v| *v == 3.0));
        if ranks.rank() == 1 { Ok(()) } else { ranks.all_reduce(&mut values).map_err(|error| error.to_string()) }
    });
    assert!(sums[0].as_ref().unwrap_err().starts_with("lost process 2 of the training: "), "{sums:?}");
    assert!(sums[2].as_ref().unwrap_err().starts_with("lost process 1 of the training: "), "{sums:?}");
}

#[test]
fn a_rank_that_computes_sees_that_another_one_has_ended() {
    let found = together(2, |ranks| (ranks.rank(), ranks.count()));
    assert_eq!(found, [(0, 2), (1, 2)]);
    let address = free_address();
    std::thread::scope(|scope| {
        let connect = |rank| TcpRanks::connect(&rendezvous(rank, 2, &address), b"", &mut || Ok(())).unwrap();
        let other = scope.spawn(move || connect(1));
        let first = connect(0);
        let other = other.join().unwrap();
        first.check().unwrap();
        // Data that has come and was not read is no reason, and is still there.
        let sums = scope.spawn(move || other.all_reduce(&mut [1.0]).map(|()| other));
        std::thread::sleep(Duration::from_millis(20));
        first.check().unwrap();
        first.all_reduce(&mut [1.0]).unwrap();
        drop(sums.join().unwrap().unwrap());
        let lost = first.check().unwrap_err();
        assert!(matches!(lost, Error::LostRank { rank: 1, .. }), "{lost}");
    });
}

#[test]
fn a_lost_rank_stays_lost_and_exchanges_that_differ_are_not_added_up() {
    let found = together(3, |ranks| {
        let mut said = Vec::new();
        match ranks.rank() {
            // One value less than the others.
            2 => said.push(ranks.all_reduce(&mut [1.0])),
            _ => said.push(ranks.all_reduce(&mut [1.0, 2.0])),
        }
        said.push(ranks.all_gather(&[1]).map(|_| ()));
        said.into_iter().map(|result| result.unwrap_err().to_string()).collect::<Vec<_>>()
    });
    let other = "lost process 3 of the training: it takes part in another exchange than process 1";
    assert_eq!(found[0], [other; 2]);
    assert!(
        found[1..].iter().flatten().all(|error| error.starts_with("lost process 1 of the training: ")),
        "{found:?}"
    );
}

/// What connecting says to each of these ranks.
fn connected(ranks: &[(Rendezvous, &str)]) -> Vec<Result<(), String>> {
    std::thread::scope(|scope| {
        let connect = |(rendezvous, settings): &(Rendezvous, &str)| {
            let (rendezvous, settings) = (rendezvous.clone(), settings.as_bytes().to_vec());
            scope.spawn(move || {
                TcpRanks::connect(&rendezvous, &settings, &mut || Ok(())).map(|_| ()).map_err(|error| error.message())
            })
        };
        let connecting: Vec<_> = ranks.iter().map(connect).collect();
        connecting.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

#[test]
fn a_rank_that_does_not_fit_is_told_why_and_the_right_one_can_still_connect() {
    for (wrong, settings, said) in [
        ((1, 2), "k = 32\nlr = 1", "process 2 was rejected: expected k = 16, found k = 32"),
        ((1, 3), "k = 16\nlr = 1", "process 2 was rejected: it was started as one of 3 processes"),
        ((2, 3), "k = 16\nlr = 1", "process 3 was rejected: it was started as one of 3 processes"),
    ] {
        let address = free_address();
        let found = std::thread::scope(|scope| {
            let first = scope.spawn(|| connected(&[(rendezvous(0, 2, &address), "k = 16\nlr = 1")]));
            let rejected = connected(&[(rendezvous(wrong.0, wrong.1, &address), settings)]);
            let right = connected(&[(rendezvous(1, 2, &address), "k = 16\nlr = 1")]);
            [rejected, first.join().unwrap(), right].concat()
        });
        assert!(found[0].as_ref().is_err_and(|error| error.contains(said)), "{found:?}");
        assert_eq!(found[1..], [Ok(()), Ok(())], "{said}");
    }
}

#[test]
fn a_rank_that_died_while_it_waited_is_replaced_and_one_that_lives_is_not() {
    let address = free_address();
    let found = std::thread::scope(|scope| {
        let first = scope.spawn(|| connected(&[(rendezvous(0, 3, &address), "")]));
        // It connects, waits, and dies.
        let mut calls = 0;
        let died = TcpRanks::connect(&rendezvous(1, 3, &address), b"", &mut || {
            calls += 1;
            if calls < 20 { Ok(()) } else { Err(Error::Cancelled) }
        });
        assert!(matches!(died, Err(Error::Cancelled)));
        // Of two others with its number, whichever connects later is rejected.
        let [one, two] = [0, 1].map(|_| scope.spawn(|| connected(&[(rendezvous(1, 3, &address), "")])));
        while !one.is_finished() && !two.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let third = connected(&[(rendezvous(2, 3, &address), "")]);
        let mut seconds = [one.join().unwrap(), two.join().unwrap()].concat();
        seconds.sort();
        (seconds, [first.join().unwrap(), third].concat())
    });
    let (seconds, others) = found;
    assert_eq!((&seconds[0], &others[..]), (&Ok(()), &[Ok(()), Ok(())][..]), "{seconds:?}");
    assert!(seconds[1].as_ref().is_err_and(|error| error.contains("process 2 was rejected: it was started twice")));
}

#[test]
fn ranks_that_wait_in_vain_say_so_and_other_programs_are_ignored() {
    let address = free_address();
    let short = |rank: usize| Rendezvous { timeout: Duration::from_millis(400), ..rendezvous(rank, 2, &address) };
    let late = connected(&[(short(1), "")]);
    assert!(
        late[0].as_ref().unwrap_err().contains("lost process 1 of the training: it could not be reached at"),
        "{late:?}"
    );
    let none = std::thread::scope(|scope| {
        let first = scope.spawn(|| connected(&[(short(0), "")]));
        let mut silent = Vec::new();
        while !first.is_finished() {
            // A program that says something else, and one that stays and says nothing.
            silent.extend(TcpStream::connect(&address));
            let _ = TcpStream::connect(&address).and_then(|mut peer| peer.write_all(b"GET / HTTP/1.1\r\n\r\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
        first.join().unwrap()
    });
    assert!(
        none[0].as_ref().unwrap_err().contains("lost process 2 of the training: it did not connect to"),
        "{none:?}"
    );
    for wrong in ["nowhere", ":29400", "node-1:port"] {
        let error = TcpRanks::connect(&rendezvous(0, 2, wrong), b"", &mut || Ok(())).err().unwrap();
        assert!(matches!(error, Error::Config(_)) && error.message().contains("as in node-1:29400"), "{error}");
    }
    assert!(TcpRanks::connect(&rendezvous(2, 2, &address), b"", &mut || Ok(())).is_err());
}

#[test]
fn a_share_has_consecutive_features_and_all_shares_have_all() {
    let shares = together(3, |ranks| {
        let share = FeatureShare::new(ranks.clone(), 25).unwrap();
        assert!(FeatureShare::new(ranks, 2).is_err());
        (share.features(), share.local(&[0, 7, 8, 9, 24]), share.local_ends(&[4, 12, 25]), share.largest_share())
    });
    assert_eq!(shares[0], (0..8, (vec![0, 7], 2), vec![4, 8, 8], 9));
    assert_eq!(shares[1], (8..16, (vec![0, 1], 2), vec![0, 4, 8], 9));
    assert_eq!(shares[2], (16..25, (vec![8], 2), vec![0, 0, 9], 9));
}
