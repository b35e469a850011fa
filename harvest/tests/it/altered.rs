//! Altered rows: images are read and redrawn for the rows of a shard alone, a second pass with blank images reads none, and
//! whoever is shown a sample is shown the image that it was made of.

use crate::bad;
use crate::golden::Golden;
use crate::server::{Answer, Server};
use harvest::data::{Corruption, CorruptionKind};
use harvest::{Error, Plan, for_each_sample, harvest};
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::store::{Store, StoreRecord, load_samples};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

fn picture(n: usize) -> Vec<u8> {
    let name = ["wide.png", "tall.png", "square.png"][n % 3];
    fs::read(Golden::open("llava-a").folder.join("images").join(name)).unwrap()
}

/// A row for each image, in a file.
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
    let plan = Plan::new(model, data, vec![1]);
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
fn a_shard_of_altered_rows_reads_its_own_images_alone_and_is_part_of_the_whole() {
    let (dir, model) = bad::checkpoint();
    let server = Server::new(|path, _| {
        let n = path.trim_matches(|sign: char| !sign.is_ascii_digit()).parse().unwrap();
        Answer::ok(picture(n))
    });
    let links: Vec<_> = (0..24).map(|n| format!("{}/{n}.png", server.address)).collect();
    let data = data(dir.path(), &links);
    for fault in [
        CorruptionKind::BlankImages,
        CorruptionKind::NoisyImages,
        CorruptionKind::BlurredImages,
        CorruptionKind::ShuffledWords,
    ] {
        let altered = Plan { alterations: vec![Corruption { fault, share: 0.75, seed: 5 }], ..plan(&model, &data) };
        let (whole, _) = captured(&altered, &dir.path().join(format!("whole-{}", fault.name())));
        server.asked();
        let shard = Plan { shard: Some("8/8".parse().unwrap()), ..altered };
        let (last, record) = captured(&shard, &dir.path().join(format!("last-{}", fault.name())));
        assert_eq!(record.progress().samples, 3);
        let asked: BTreeSet<String> = server.asked().into_iter().collect();
        assert_eq!(asked, ["/21.png", "/22.png", "/23.png"].map(String::from).into(), "{fault:?}");
        assert_eq!(load_samples(&last).unwrap(), load_samples(&whole).unwrap()[21..], "{fault:?}");
        let (whole, last) = (values(&whole), values(&last));
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
        assert!(whole[whole.len() - last.len()..].iter().zip(&last).all(close), "{fault:?}");
    }
    // What is exchanged comes from rows of the same window, wherever the shard begins.
    let fault = CorruptionKind::SwappedImages;
    let swapped = Plan { alterations: vec![Corruption { fault, share: 1.0, seed: 5 }], ..plan(&model, &data) };
    let (whole, _) = captured(&swapped, &dir.path().join("whole-swapped"));
    server.asked();
    let (last, _) =
        captured(&Plan { shard: Some("8/8".parse().unwrap()), ..swapped }, &dir.path().join("last-swapped"));
    assert_eq!(server.asked().len(), 3, "the images of three donors");
    assert_eq!(load_samples(&last).unwrap(), load_samples(&whole).unwrap()[21..]);
}

#[test]
fn a_blank_pass_holds_the_samples_of_the_first_and_reads_no_image() {
    let (dir, model) = bad::checkpoint();
    let server = Server::new(|path, _| match path {
        "/gone.png" => Answer::new(404),
        _ => Answer::ok(picture(1)),
    });
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::write(images.join("good.png"), picture(0)).unwrap();
    // Its header is good: whoever reads no more than that cannot tell that the first pass skipped the row.
    let whole = picture(2);
    fs::write(images.join("cut.png"), &whole[..whole.len() / 2]).unwrap();
    let [link, gone] = ["a", "gone"].map(|name| format!("{}/{name}.png", server.address));
    let names = ["images/good.png", "images/cut.png", &link, &gone, "images/good.png"].map(String::from);
    let plan = plan(&model, &data(dir.path(), &names));
    let (run, first) = captured(&plan, &dir.path().join("run"));
    assert_eq!(first.skipped.iter().map(|row| row.row).collect::<Vec<_>>(), [1, 3]);
    let samples = load_samples(&run).unwrap();

    server.asked();
    fs::remove_dir_all(&images).unwrap();
    let (blank, second) = captured(&plan.blank(&samples), &dir.path().join("run/blank"));
    assert_eq!(server.asked(), Vec::<String>::new());
    let reasons: Vec<_> = second.skipped.iter().map(|row| (row.row, row.reason.as_str())).collect();
    assert_eq!(reasons, [(1, "the first pass skipped the row"), (3, "the first pass skipped the row")]);
    let blank_samples = load_samples(&blank).unwrap();
    assert_eq!(blank_samples.len(), samples.len());
    for (blank, sample) in blank_samples.iter().zip(&samples) {
        assert_eq!((&blank.source, &blank.text), (&sample.source, &sample.text));
        assert_ne!(blank.images[0].sha256, sample.images[0].sha256);
        assert_eq!((blank.images[0].width, blank.images[0].height), (sample.images[0].width, sample.images[0].height));
    }
    let (seen, white) = (values(&run), values(&blank));
    assert!(seen.len() == white.len() && seen != white, "the same positions, with other images");
}

#[test]
fn a_sample_is_shown_with_the_image_it_was_made_of_though_the_link_gives_another_each_time() {
    let (dir, model) = bad::checkpoint();
    let asked = Mutex::new(BTreeMap::<String, usize>::new());
    let server = Server::new(move |path, _| {
        let mut asked = asked.lock().unwrap();
        let times = asked.entry(path.to_owned()).or_default();
        *times += 1;
        match path {
            // One image is there the first time, and never again.
            "/once.png" if *times > 1 => Answer::new(404),
            _ => Answer::ok(picture(*times)),
        }
    });
    let links = ["once", "a", "b"].map(|name| format!("{}/{name}.png", server.address));
    let mut row = fs::read_to_string(data(dir.path(), &links[..1])).unwrap();
    // A row of two images, in which one that cannot be read would move the other.
    row += &serde_json::json!({
        "id": "two", "image": &links[1..3],
        "conversations": [{"from": "human", "value": "<image><image>\nBoth?"}, {"from": "gpt", "value": "Yes."}],
    })
    .to_string();
    fs::write(dir.path().join("data.jsonl"), row).unwrap();
    let plan = plan(&model, &dir.path().join("data.jsonl"));
    let mut seen = 0;
    let skipped = for_each_sample::<Error>(&plan, &mut |visited, _| {
        let digests = visited
            .files
            .iter()
            .map(|file| Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let stated = visited.sample.sample.images.iter().map(|image| image.sha256.clone());
        assert_eq!(digests.collect::<Vec<_>>(), stated.collect::<Vec<_>>());
        seen += 1;
        Ok(())
    });
    assert_eq!((seen, skipped.unwrap().rows()), (2, 0));
    assert_eq!(server.asked().len(), 3, "each image is asked for once");
}
