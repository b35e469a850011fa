//! Corrupted rows: only the images of a shard's own rows are read and redrawn, a second pass with blank images reads no
//! images, and a visited sample comes with the image files that it was made of.

use crate::bad_input;
use crate::golden::Golden;
use crate::server::{Answer, Server};
use harvest::data::{Corruption, CorruptionKind};
use harvest::{Error, Plan, for_each_sample, harvest};
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use sae_core::store::{Store, StoreRecord, load_samples};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

fn image(n: usize) -> Vec<u8> {
    let name = ["wide.png", "tall.png", "square.png"][n % 3];
    fs::read(Golden::open("llava-a").folder.join("images").join(name)).unwrap()
}

/// Writes a data set with one row for each image.
fn data(folder: &Path, images: &[String]) -> PathBuf {
    let rows = images.iter().enumerate().map(|(n, image)| {
        let turns = serde_json::json!([
            { "from": "human", "value": "<image>\nWhat is this?" },
            { "from": "gpt", "value": format!("Thing {n}, with words.") },
        ]);
        serde_json::json!({ "id": format!("row-{n}"), "image": image, "conversations": turns }).to_string() + "\n"
    });
    fs::create_dir_all(folder).unwrap();
    let path = folder.join("data.jsonl");
    fs::write(&path, rows.collect::<String>()).unwrap();
    path
}

fn plan(model: &Path, data: &Path) -> Plan {
    let plan = Plan::new(model, data, vec![Hook::block(1)]);
    Plan { device: DeviceChoice::Cpu, part_rows: 100, batch_tokens: 80, fetch_images: true, ..plan }
}

fn captured(plan: &Plan, run: &Path) -> (Run, StoreRecord) {
    let run = Run::create(run).unwrap();
    let record = harvest(plan, &run, &mut |_| Ok(())).unwrap();
    (run, record)
}

fn values(run: &Run) -> Vec<f32> {
    let store = Store::open(run, "layers.1").unwrap();
    let mut values = Vec::new();
    for shard in 0..store.shards() {
        let shard = store.shard(shard).unwrap();
        shard.read(0..shard.rows(), &mut values);
    }
    values
}

#[test]
fn a_shard_of_corrupted_rows_reads_only_its_own_images_and_equals_its_part_of_the_whole() {
    let (dir, model) = bad_input::checkpoint();
    let server = Server::new(|path, _| {
        let n = path.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        Answer::ok(image(n))
    });
    let links: Vec<_> = (0..24).map(|n| format!("{}/{n}.png", server.address)).collect();
    let data = data(dir.path(), &links);
    for kind in [
        CorruptionKind::BlankImages,
        CorruptionKind::NoisyImages,
        CorruptionKind::BlurredImages,
        CorruptionKind::ShuffledWords,
    ] {
        let corrupted = Plan { corruptions: vec![Corruption { kind, share: 0.75, seed: 5 }], ..plan(&model, &data) };
        let (whole, _) = captured(&corrupted, &dir.path().join(format!("whole-{}", kind.name())));
        server.requests();
        let shard = Plan { shard: Some("8/8".parse().unwrap()), ..corrupted };
        let (last, record) = captured(&shard, &dir.path().join(format!("last-{}", kind.name())));
        assert_eq!(record.progress().samples, 3);
        let asked: BTreeSet<String> = server.requests().into_iter().collect();
        assert_eq!(asked, ["/21.png", "/22.png", "/23.png"].map(String::from).into(), "{kind:?}");
        assert_eq!(load_samples(&last).unwrap(), load_samples(&whole).unwrap()[21..], "{kind:?}");
        let (whole, last) = (values(&whole), values(&last));
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
        assert!(whole[whole.len() - last.len()..].iter().zip(&last).all(close), "{kind:?}");
    }
    // Content is exchanged between rows of the same window, wherever the shard begins.
    let kind = CorruptionKind::SwappedImages;
    let swapped = Plan { corruptions: vec![Corruption { kind, share: 1.0, seed: 5 }], ..plan(&model, &data) };
    let (whole, _) = captured(&swapped, &dir.path().join("whole-swapped"));
    server.requests();
    let (last, _) =
        captured(&Plan { shard: Some("8/8".parse().unwrap()), ..swapped }, &dir.path().join("last-swapped"));
    assert_eq!(server.requests().len(), 3, "the images of the three rows that they come from");
    assert_eq!(load_samples(&last).unwrap(), load_samples(&whole).unwrap()[21..]);
}

#[test]
fn a_blank_pass_has_the_samples_of_the_first_pass_and_reads_no_image() {
    let (dir, model) = bad_input::checkpoint();
    let server = Server::new(|path, _| match path {
        "/gone.png" => Answer::new(404),
        _ => Answer::ok(image(1)),
    });
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::write(images.join("good.png"), image(0)).unwrap();
    // Its header is valid, so a reader of headers alone would not notice that the first pass skipped the row.
    let complete = image(2);
    fs::write(images.join("cut.png"), &complete[..complete.len() / 2]).unwrap();
    let [link, gone] = ["a", "gone"].map(|name| format!("{}/{name}.png", server.address));
    let names = ["images/good.png", "images/cut.png", &link, &gone, "images/good.png"].map(String::from);
    let plan = plan(&model, &data(dir.path(), &names));
    let (run, first) = captured(&plan, &dir.path().join("run"));
    assert_eq!(first.skipped.iter().map(|row| row.row).collect::<Vec<_>>(), [1, 3]);
    let samples = load_samples(&run).unwrap();

    server.requests();
    fs::remove_dir_all(&images).unwrap();
    let (blank, second) = captured(&plan.blank(&samples), &dir.path().join("run/blank"));
    assert_eq!(server.requests(), Vec::<String>::new());
    let reasons: Vec<_> = second.skipped.iter().map(|row| (row.row, row.reason.as_str())).collect();
    assert_eq!(reasons, [(1, "the first pass skipped the row"), (3, "the first pass skipped the row")]);
    let blank_samples = load_samples(&blank).unwrap();
    assert_eq!(blank_samples.len(), samples.len());
    for (blank, sample) in blank_samples.iter().zip(&samples) {
        assert_eq!((&blank.source, &blank.text), (&sample.source, &sample.text));
        assert_ne!(blank.images[0].sha256, sample.images[0].sha256);
        assert_eq!((blank.images[0].width, blank.images[0].height), (sample.images[0].width, sample.images[0].height));
    }
    let (first, blank) = (values(&run), values(&blank));
    assert!(first.len() == blank.len() && first != blank, "the same positions, with other images");
}

#[test]
fn a_visited_sample_has_the_image_files_it_was_made_of_even_if_a_link_changes() {
    let (dir, model) = bad_input::checkpoint();
    let asked = Mutex::new(BTreeMap::<String, usize>::new());
    let server = Server::new(move |path, _| {
        let mut asked = asked.lock().unwrap();
        let times = asked.entry(path.to_owned()).or_default();
        *times += 1;
        match path {
            // One image exists only at the first request.
            "/once.png" if *times > 1 => Answer::new(404),
            _ => Answer::ok(image(*times)),
        }
    });
    let links = ["once", "a", "b"].map(|name| format!("{}/{name}.png", server.address));
    let mut row = fs::read_to_string(data(dir.path(), &links[..1])).unwrap();
    // A row with two images. If one could not be read, the other would get its number.
    row += &serde_json::json!({
        "id": "two", "image": &links[1..3],
        "conversations": [{"from": "human", "value": "<image><image>\nBoth?"}, {"from": "gpt", "value": "Yes."}],
    })
    .to_string();
    fs::write(dir.path().join("data.jsonl"), row).unwrap();
    let plan = plan(&model, &dir.path().join("data.jsonl"));
    let mut count = 0;
    let skipped = for_each_sample::<Error>(&plan, &mut |captured, _| {
        let digests = captured
            .files
            .iter()
            .map(|file| Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let stated = captured.sample.sample.images.iter().map(|image| image.sha256.clone());
        assert_eq!(digests.collect::<Vec<_>>(), stated.collect::<Vec<_>>());
        count += 1;
        Ok(())
    });
    assert_eq!((count, skipped.unwrap().rows()), (2, 0));
    assert_eq!(server.requests().len(), 3, "each image is requested once");
}
