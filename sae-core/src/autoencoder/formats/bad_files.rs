//! Files that are damaged, inconsistent or malicious: each is rejected with a reason, and none makes a reader panic.

use super::*;
use arrays::{Arrays, plain};
use proptest::prelude::*;
use std::fs;

/// A copy of a golden folder.
pub(super) fn copy(name: &str) -> tempfile::TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/saes");
    let from = ["infer", "other"].map(|kind| root.join(kind).join(name)).into_iter().find(|dir| dir.exists()).unwrap();
    let to = tempfile::tempdir().unwrap();
    let checkpoints = from.join("checkpoints");
    if checkpoints.is_dir() {
        fs::create_dir(to.path().join("checkpoints")).unwrap();
    }
    let files = [from.as_path(), &checkpoints].into_iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
    for file in files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        fs::copy(&file, to.path().join(file.strip_prefix(&from).unwrap())).unwrap();
    }
    to
}

/// What is said about a folder whose file was changed.
pub(super) fn rejection(name: &str, file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let dir = copy(name);
    let path = dir.path().join(file);
    let before = fs::read(&path).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after, "nothing was changed");
    fs::write(&path, after).unwrap();
    load(dir.path()).unwrap_err().message()
}

pub(super) fn replaced<'a>(from: &'a str, to: &'a str) -> impl FnOnce(Vec<u8>) -> Vec<u8> + 'a {
    move |bytes| {
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
    }
}

#[test]
fn safetensors_that_are_cut_off_or_have_a_wrong_length_are_rejected() {
    let weights = "sae_weights.safetensors";
    let cut = rejection("standard-bdec-none", weights, |mut b| {
        b.truncate(b.len() - 4);
        b
    });
    assert!(cut.contains("not a whole safetensors file") && cut.contains(weights), "{cut}");
    let lying = rejection("standard-bdec-none", weights, |b| [&(u64::MAX / 2).to_le_bytes()[..], &b[8..]].concat());
    assert!(lying.contains("not a whole safetensors file"), "{lying}");
}

#[test]
fn every_tensor_that_is_missing_or_misshapen_is_named_at_once() {
    let said = rejection("gated-bdec-none", "cfg.json", replaced("\"d_sae\": 24", "\"d_sae\": 25"));
    for part in [
        "W_enc has shape [8, 24], expected [8, 25]",
        "W_dec has shape [24, 8], expected [25, 8]",
        "b_gate has shape [24], expected [25]",
        "r_mag has shape",
        "b_mag has shape",
        "sae_weights.safetensors",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let said = rejection("standard-bdec-none", "cfg.json", replaced("\"standard\"", "\"gated\""));
    assert!(["b_gate", "r_mag", "b_mag"].iter().all(|n| said.contains(&format!("there is no {n}"))), "{said}");
    let huge =
        rejection("standard-bdec-none", "cfg.json", replaced("\"d_sae\": 24", "\"d_sae\": 18446744073709551615"));
    assert!(
        huge.contains("expected [8, 18446744073709551615]"),
        "sizes are compared before memory is asked for: {huge}"
    );
    for name in ["llama_scope", "llama_scope_topk"] {
        let claimed = |bytes: Vec<u8>| {
            let mut config: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            config["d_sae"] = u64::MAX.into();
            serde_json::to_vec(&config).unwrap()
        };
        let said = rejection(name, "hyperparams.json", claimed);
        assert!(said.contains("18446744073709551615"), "{name}: {said}");
    }
    let none = rejection("sparsify_topk", "cfg.json", replaced("\"d_in\": 8", "\"d_in\": 0"));
    assert!(none.contains("expected [0, 0]"), "{none}");
}

#[test]
fn values_that_are_not_finite_are_rejected() {
    let nan = |bytes: Vec<u8>| {
        let at = bytes.len() - 4;
        [&bytes[..at], &f32::NAN.to_le_bytes()[..]].concat()
    };
    let said = rejection("standard-bdec-none", "sae_weights.safetensors", nan);
    assert!(said.contains("values that are not finite in b_enc"), "{said}");
}

#[test]
fn unknown_names_are_reported_with_the_known_ones() {
    for (name, file, from, to, parts) in [
        ("standard-bdec-none", "cfg.json", "\"standard\"", "\"temporal\"", ["\"temporal\"", "matryoshka_batchtopk"]),
        ("standard-bdec-none", "cfg.json", "\"none\"", "\"whitened\"", ["normalize_activations", "whitened"]),
        ("saelens_v3_relu", "cfg.json", "\"relu\"", "\"tanh-relu\"", ["activation function", "tanh-relu"]),
        ("topk-bdec-none", "cfg.json", "\"k\": 4", "\"k\": 25", ["keeps 25 of 24", ""]),
        ("topk-bdec-none", "cfg.json", "\"k\": 4", "\"k\": 0", ["keeps 0 of 24", ""]),
        ("dl_topk", "config.json", "\"AutoEncoderTopK\"", "\"CrossCoder\"", ["\"CrossCoder\"", "GatedAutoEncoder"]),
        ("gemma_scope_2", "config.json", "\"jump_relu\"", "\"crosscoder\"", ["\"crosscoder\"", "jump_relu"]),
        ("llamascopium_topk", "config.json", "\"sae\"", "\"clt\"", ["sae_type", "clt"]),
        ("llamascopium_topk", "config.json", "\"dataset-wise\"", "\"batch-wise\"", ["norm_activation", "batch-wise"]),
        (
            "llamascopium_topk",
            "config.json",
            "\"act_fn\": \"topk\"",
            "\"act_fn\": \"layertopk\"",
            ["layertopk", "jumprelu"],
        ),
    ] {
        let said = rejection(name, file, replaced(from, to));
        assert!(parts.iter().all(|part| said.contains(part)), "{name}: {said}");
    }
    let scaled = rejection("saelens_v3_relu", "sae_weights.safetensors", |mut bytes| {
        let ones: Vec<u8> = [1f32; 24].iter().flat_map(|v| v.to_le_bytes()).collect();
        let at = bytes.windows(ones.len()).position(|w| w == ones).unwrap();
        bytes[at..at + 4].copy_from_slice(&2f32.to_le_bytes());
        bytes
    });
    assert!(scaled.contains("a scaling_factor other than one"), "{scaled}");
    let nothing = load(tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
    assert!(nothing.contains("no autoencoder was found here") && nothing.contains("params.npz"), "{nothing}");
}

#[test]
fn a_pickle_that_asks_for_anything_else_is_rejected_with_its_name() {
    let run = |pickle: &[u8]| pickle::read(pickle).unwrap_err();
    let system = run(b"cposix\nsystem\n(X\x04\x00\x00\x00echotR.");
    assert!(system.contains("asks for posix.system") && system.contains("at byte 0"), "{system}");
    let builtin = run(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.");
    assert!(builtin.contains("asks for builtins.eval"), "{builtin}");
    // `i` would make an instance, `P` look up a name of its own.
    for pickle in [&b"(icollections\nOrderedDict\n."[..], b"P0\n."] {
        assert!(run(pickle).contains("is not one that a state dict needs"));
    }
    assert!(run(b"").contains("cut off"));
    assert!(run(b"K\x01.").contains("no state dict"));
    assert!(run(b"h\x07.").contains("never remembered"));
    // Tuples of tuples of tuples: dropping them must not exhaust the stack.
    let deep = [&b")"[..], &vec![0x85; 1 << 20], b"."].concat();
    assert!(run(&deep).contains("nested too deep"));
    assert!(run(&vec![b'('; (1 << 22) + 1]).contains("is not a state dict"));

    // In its archive, the checksum reveals it, too.
    let said = rejection("dl_topk", "ae.pt", replaced("_rebuild_tensor_v2", "_rebuild_tensor_v9"));
    assert!(said.contains("CRC-32 differs") && said.contains("ae.pt"), "{said}");
}

#[test]
fn archives_that_are_cut_off_packed_or_changed_are_rejected() {
    let cut = rejection("gemma_scope_1", "params.npz", |mut b| {
        b.truncate(b.len() - 30);
        b
    });
    assert!(cut.contains("not a whole ZIP archive") && cut.contains("params.npz"), "{cut}");
    let packed = rejection("gemma_scope_1", "params.npz", |mut b| {
        let at = b.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        b[at + 10] = 8;
        b
    });
    assert!(packed.contains("W_enc.npy is packed"), "{packed}");
    let changed = rejection("gemma_scope_1", "params.npz", |mut b| {
        b[300] ^= 1;
        b
    });
    assert!(changed.contains("CRC-32 differs"), "{changed}");
    let no_shape = rejection("dl_matryoshka", "config.json", replaced("MatryoshkaBatchTopKSAE", "GatedAutoEncoder"));
    assert!(no_shape.contains("there is no encoder.weight; there are W_dec, W_enc"), "{no_shape}");
}

#[test]
fn numpy_arrays_in_either_order_and_of_any_width_are_read() {
    let npy = |descr: &str, fortran: &str, shape: &str, data: &[u8]| {
        let head = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        [&b"\x93NUMPY\x01\x00"[..], &(head.len() as u16).to_le_bytes(), head.as_bytes(), data].concat()
    };
    let doubles: Vec<u8> = (0..6).flat_map(|n| (n as f64).to_le_bytes()).collect();
    let files = [
        ("rows.npy", npy("<f8", "False", "(2, 3)", &doubles)),
        ("columns.npy", npy("<f8", "True", "(2, 3)", &doubles)),
        ("readme.txt", b"not an array".to_vec()),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npz");
    fs::write(&path, archive(&files)).unwrap();
    let arrays = Arrays::open(&path, npz::entries).unwrap();
    let [rows, columns] = arrays.take([plain("rows", &[2, 3]), plain("columns", &[2, 3])]).unwrap();
    assert_eq!(rows, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(columns, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    for (descr, shape, said) in [
        ("|O", "(2, 3)", "a is |O, not a little-endian number"),
        (">f8", "(2, 3)", "a is >f8"),
        ("<f8", "(3, 3)", "does not fit into the 48 bytes"),
        ("<f8", "(1, 9223372036854775807, 9)", "beyond all bounds"),
        ("<f8", "6", "not a .npy file"),
    ] {
        let error = npz::entries(&archive(&[("a.npy", npy(descr, "False", shape, &doubles))])).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn archives_whose_entries_share_bytes_are_rejected() {
    let data = 1000;
    let one = archive(&[("a", vec![7; data])]);
    let (file, rest) = one.split_at(31 + data);
    let (record, end) = rest.split_at(47);
    assert_eq!(zip::entries(&one).unwrap().len(), 1);
    let records = record.repeat(5);
    let end = [&end[..12], &(records.len() as u32).to_le_bytes(), &end[16..]].concat();
    let said = zip::entries(&[file, &records, &end].concat()).unwrap_err();
    assert!(said.contains("a overlaps another entry"), "{said}");
}

/// A ZIP of stored files.
fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in files {
        let (crc, size) = (crc32fast::hash(data).to_le_bytes(), (data.len() as u32).to_le_bytes());
        let common = [&[0; 10][..], &crc, &size, &size, &(name.len() as u16).to_le_bytes(), &[0; 2]].concat();
        let place = (bytes.len() as u32).to_le_bytes();
        directory.push([&b"PK\x01\x02\0\0"[..], &common, &[0; 10], &place, name.as_bytes()].concat());
        bytes.extend([&b"PK\x03\x04"[..], &common, name.as_bytes(), data].concat());
    }
    let directory = directory.concat();
    let end = [
        &b"PK\x05\x06"[..],
        &[0; 8],
        &(directory.len() as u32).to_le_bytes(),
        &(bytes.len() as u32).to_le_bytes(),
        &[0; 2],
    ];
    [bytes, directory, end.concat()].concat()
}

/// Readers of whole files, which hand out tables of contents.
fn read_all(bytes: &[u8]) {
    let _ = zip::entries(bytes);
    let _ = pickle::read(bytes);
    let _ = torch::entries(bytes);
    for contents in [arrays::safetensors, npz::entries] {
        let _ = contents(bytes);
    }
}

proptest! {
    #[test]
    fn random_bytes_make_no_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
        read_all(&[&b"\x80\x02"[..], &bytes].concat());
        let entry = archive(&[("ae/data.pkl", bytes.clone()), ("ae/data/0", vec![0; 8]), ("a.npy", bytes)]);
        read_all(&entry);
    }

    #[test]
    fn damaged_files_make_no_reader_panic(
        which in 0usize..14,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let (name, file) = [
            ("dl_topk", "ae.pt"), ("dl_gated", "ae.pt"), ("dl_topk", "config.json"), ("gemma_scope_1", "params.npz"),
            ("gemma_scope_2", "params.safetensors"), ("topk-bdec-none", "cfg.json"), ("saev", "cfg.json"),
            ("sparsify_topk", "cfg.json"), ("llamascopium_topk", "config.json"), ("gemma_scope_2", "config.json"),
            ("llama_scope", "hyperparams.json"), ("llama_scope", "checkpoints/final.safetensors"),
            ("SAE-Res-Tiny-2B-Base-W24-L0_4", "layer3.sae.pt"), ("saelens_train_scaled", "activation_scaler.json"),
        ][which];
        let dir = copy(name);
        let path = dir.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        let whole = bytes.len();
        places.iter().for_each(|(at, byte)| bytes[at.index(whole)] = *byte);
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        read_all(&bytes);
        fs::write(&path, &bytes).unwrap();
        let _ = load(dir.path());
    }

    #[test]
    fn damaged_pickles_make_no_reader_panic(
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        // Behind a right checksum, where a file that was made to be bad would have it.
        let dir = copy("dl_gated");
        let bytes = fs::read(dir.path().join("ae.pt")).unwrap();
        let files: Vec<_> = zip::entries(&bytes).unwrap();
        let mut files: Vec<_> = files.iter().map(|e| (&e.name[..], bytes[e.range.clone()].to_vec())).collect();
        let pickle = files.iter().position(|(name, _)| name.ends_with("data.pkl")).unwrap();
        for (at, byte) in &places {
            let length = files[pickle].1.len();
            files[pickle].1[at.index(length)] = *byte;
        }
        fs::write(dir.path().join("ae.pt"), archive(&files)).unwrap();
        let _ = load(dir.path());
    }
}
