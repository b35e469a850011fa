//! Hooks within decoder blocks: each alone has the bits that it has among all; a model that continues from one, with its own states
//! or with others, predicts what the whole model does; harvests store them, and continue with the same bytes.

use crate::bad_input;
use crate::golden::{Golden, relative_error, repository};
use crate::parity::{every_hook, inputs};
use harvest::model::{Compute, Hidden, Input, KvCache, Model, Weights};
use harvest::{Checkpoint, Error, Pieces, Plan, SpliceRunner, harvest};
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::store::sample::Modality;
use sae_core::store::{Hook, Site, Store, load_samples};
use std::fs;
use std::path::Path;

/// A family with norms before, one with norms before and behind, one that multiplies the output of a block, one with
/// a prefix, and one with norms behind.
const FAMILIES: [&str; 6] = ["llava-a", "qwen3_vl-a", "gemma3-a", "gemma4-a", "paligemma-b", "chameleon-b"];

fn open(name: &str) -> (Golden, Checkpoint, Model) {
    let golden = Golden::open(name);
    let checkpoint = Checkpoint::open(&golden.folder).unwrap();
    let model = checkpoint.load(None, &Compute::Host { bf16: false }).unwrap();
    (golden, checkpoint, model)
}

/// The factor of the output of a block, which only Gemma 4 has.
fn factor(golden: &Golden, layer: usize) -> f32 {
    let weights = Weights::open(&golden.folder).unwrap();
    let stored = weights.tensor(&format!("model.language_model.layers.{layer}.layer_scalar"));
    stored.map_or(1.0, |(_, _, bytes)| f32::from_le_bytes(bytes.try_into().unwrap()))
}

#[test]
fn every_family_has_golden_files_of_hooks_within_blocks() {
    let folders = fs::read_dir(repository().join("tests/golden")).unwrap().map(|entry| entry.unwrap().path());
    let of_models: Vec<_> = folders.filter(|folder| folder.join("samples.json").exists()).collect();
    assert!(of_models.len() >= 21);
    for folder in of_models {
        let is_video = folder.to_string_lossy().ends_with("-video");
        assert_eq!(folder.join("golden.hooks.safetensors").exists(), !is_video, "{}", folder.display());
        let blocks = Checkpoint::open(&folder).unwrap().config().text.layers.len();
        let golden = Golden::at(&folder);
        for hook in every_hook(blocks).into_iter().filter(|hook| hook.site() != Site::Output) {
            let name = format!("sample0.{}", hook.to_string().strip_prefix("layers.").unwrap());
            assert!(golden.hooks.as_ref().is_none_or(|hooks| hooks.shape(&name).is_some()), "{name}");
        }
    }
}

#[test]
fn a_hook_alone_has_the_bits_that_it_has_among_all_of_them() {
    for name in FAMILIES {
        let (golden, checkpoint, model) = open(name);
        let inputs = inputs(&golden, &checkpoint);
        let inputs: Vec<&Input> = inputs.iter().take(2).collect();
        let hooks = every_hook(checkpoint.config().text.layers.len());
        let all = model.hidden(&inputs, &hooks).unwrap();
        for (n, hook) in hooks.iter().enumerate() {
            let alone = model.hidden(&inputs, &[*hook]).unwrap();
            assert!(alone.hook(0) == all.hook(n), "{name} {hook}");
        }
        // The residual stream is the sum of what the blocks add, in Gemma 4 times a factor.
        for layer in 1..checkpoint.config().text.layers.len() {
            let at = |layer: usize, site| all.hook(hooks.iter().position(|h| *h == Hook::new(layer, site)).unwrap());
            let factor = factor(&golden, layer);
            let parts = [at(layer - 1, Site::Output), at(layer, Site::AttnOut), at(layer, Site::MlpOut)];
            let sum = |n: usize| factor * parts.iter().map(|part| part[n]).sum::<f32>();
            let sum: Vec<f32> = (0..parts[0].len()).map(sum).collect();
            // Vectors of images are added between the first blocks of Qwen3-VL.
            let is_sum = relative_error(&sum, at(layer, Site::Output)) < 1e-5;
            assert!(is_sum || name == "qwen3_vl-a", "{name} {layer}");
        }
    }
}

#[test]
fn a_model_that_goes_on_from_a_hook_predicts_as_the_whole_model() {
    for name in FAMILIES {
        let (golden, checkpoint, model) = open(name);
        let inputs = inputs(&golden, &checkpoint);
        let inputs: Vec<&Input> = inputs.iter().take(3).collect();
        let positions: Vec<Vec<usize>> = inputs.iter().map(|input| (1..input.ids.len()).collect()).collect();
        let whole = model.nll(&inputs, &positions).unwrap().concat();
        let predicted = |hook: Hook, states: &[Hidden]| model.compare(hook, &inputs, states, &positions).unwrap();
        for hook in every_hook(checkpoint.config().text.layers.len()) {
            let paused = model.pause(&mut [], &inputs, &[hook]).unwrap();
            let resumed = predicted(hook, &[paused]).remove(0);
            assert_eq!(resumed.len(), whole.len());
            for (resumed, whole) in resumed.iter().zip(&whole) {
                assert!((resumed.nll - whole).abs() < 1e-5 && resumed.kl == 0.0, "{name} {hook}");
            }
        }
    }
}

#[test]
fn other_states_at_a_hook_change_what_depends_on_them() {
    for name in FAMILIES {
        let (golden, checkpoint, model) = open(name);
        let inputs = inputs(&golden, &checkpoint);
        let inputs: Vec<&Input> = inputs.iter().take(2).collect();
        let positions: Vec<Vec<usize>> = inputs.iter().map(|input| (1..input.ids.len()).collect()).collect();
        let nll = |hook: Hook, paused: &Hidden, rows: &[f32]| -> Vec<f32> {
            let found = model.compare(hook, &inputs, &[paused.with_rows(rows)], &positions).unwrap().remove(0);
            found.iter().map(|prediction| prediction.nll).collect()
        };
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        let site = |site| Hook::new(1, site);
        let pause = |hook| model.pause(&mut [], &inputs, &[hook]).unwrap();
        let [added, output] = [Site::MlpOut, Site::Output].map(|at| pause(site(at)));
        // An MLP that adds nothing, and the output of the block less what it adds.
        let nothing = nll(site(Site::MlpOut), &added, &vec![0.0; added.hook(0).len()]);
        let factor = factor(&golden, 1);
        let less = output.hook(0).iter().zip(added.hook(0)).map(|(output, added)| output - factor * added);
        let less: Vec<f32> = less.collect();
        assert!(close(&nothing, &nll(Hook::block(1), &output, &less)), "{name}");
        // What the MLP adds, in place of its output, while its input was read, and that of the block before: as a transcoder does it.
        let own = nll(Hook::block(1), &output, output.hook(0));
        let hooks = [Hook::block(0), site(Site::MlpIn), site(Site::MlpOut)];
        let read = model.pause(&mut [], &inputs, &hooks).unwrap();
        assert!(read.hooks() == hooks.map(|hook| model.hidden(&inputs, &[hook]).unwrap().hook(0).to_vec()), "{name}");
        assert!(close(&own, &nll(site(Site::MlpOut), &read, added.hook(0))), "{name}");
        assert!(!close(&own, &nothing), "{name}: the MLP matters");
        // Attention reads all of the input at once, so that a later position depends on the first one.
        let attention = pause(site(Site::AttnIn));
        let mut rows = attention.hook(0).to_vec();
        rows[..attention.width()].iter_mut().for_each(|x| *x += 3.0);
        let changed = nll(site(Site::AttnIn), &attention, &rows);
        assert!(changed.iter().zip(&own).skip(1).any(|(a, b)| a != b), "{name}");

        let plain = model.hidden(&inputs, &[site(Site::MlpOut)]).unwrap();
        let error = model.compare(site(Site::MlpOut), &inputs, &[plain], &positions).unwrap_err();
        assert!(matches!(error, Error::NotPaused { hook } if hook == site(Site::MlpOut)));
        let beyond = model.pause(&mut [], &inputs, &[Hook::new(99, Site::MlpIn)]).unwrap_err();
        assert!(matches!(beyond, Error::LayerNotLoaded { asked: 99, .. }));
    }
}

#[test]
fn a_text_that_is_continued_at_a_hook_has_the_bits_of_the_whole_text() {
    for name in FAMILIES {
        let (golden, checkpoint, model) = open(name);
        // One without images, or with an answer behind its prefix.
        let fits = |input: &Input| input.images.is_empty() || (1..input.ids.len()).contains(&input.prefix);
        let input = inputs(&golden, &checkpoint).into_iter().find(fits).unwrap();
        let logits = |caches: &mut KvCache, input: &Input, hook: Hook| {
            let states = model.pause(&mut [caches], &[input], &[hook]).unwrap();
            let mut next = Vec::new();
            let mut each = |_: usize, _: usize, row: &[f32]| next = row.iter().map(|x| x.to_bits()).collect();
            model.logits_after(&mut [caches], hook, &[input], &states, &[1], &mut each).unwrap();
            (states.hook(0).iter().map(|x| x.to_bits()).collect::<Vec<u32>>(), next)
        };
        let begun = Input { ids: input.ids[..input.prefix.max(input.ids.len() / 2)].to_vec(), ..input.clone() };
        for hook in every_hook(checkpoint.config().text.layers.len()) {
            let whole = logits(&mut KvCache::default(), &input, hook);
            let mut cache = KvCache::default();
            logits(&mut cache, &begun, hook);
            let continued = logits(&mut cache, &input, hook);
            assert!(continued.1 == whole.1 && whole.0.ends_with(&continued.0), "{name} {hook}");
            // Nothing is kept of blocks that are not run; of the first block's input that is everything.
            let is_first = hook == Hook::new(0, Site::AttnIn);
            assert_eq!(continued.0.len() == whole.0.len(), is_first, "{name} {hook}");
        }
    }
}

/// A data set of preferences, whose two answers begin alike.
fn data(folder: &Path) {
    let golden = Golden::open("llava-a").folder;
    fs::create_dir_all(folder.join("images")).unwrap();
    fs::copy(golden.join("images/square.png"), folder.join("images/square.png")).unwrap();
    let row = |n: usize| {
        let (chosen, rejected) = ("A word. ".repeat(1 + n % 4), "A word and another. ".repeat(1 + n % 2));
        format!(
            r#"{{"id": "row-{n}", "image": "images/square.png", "question": "What?", "chosen": "{chosen}", "rejected": "{rejected}"}}"#
        )
    };
    fs::write(folder.join("data.jsonl"), (0..12).map(row).collect::<Vec<_>>().join("\n")).unwrap();
}

fn values(run: &Run, hook: Hook) -> Vec<f32> {
    let store = Store::open_with_pieces(run, &hook.to_string()).unwrap();
    assert_eq!((store.hook(), store.manifest().layer), (hook, hook.layer()));
    let mut values = Vec::new();
    for n in 0..store.shards() {
        let shard = store.shard(n).unwrap();
        shard.read(0..shard.rows(), &mut values);
    }
    values
}

#[test]
fn harvests_store_hooks_within_blocks_and_continue_with_the_same_bytes() {
    let (dir, model) = bad_input::checkpoint();
    data(&dir.path().join("data"));
    let hooks =
        vec![Hook::new(1, Site::MlpOut), Hook::block(1), Hook::new(1, Site::MlpIn), Hook::new(0, Site::AttnOut)];
    let plan = Plan {
        device: DeviceChoice::Cpu,
        part_rows: 150,
        batch_tokens: 120,
        ..Plan::new(&model, dir.path().join("data/data.jsonl"), hooks.clone())
    };
    for pieces in [None, Some(Pieces::Answers)] {
        let plan = Plan { pieces, ..plan.clone() };
        let run = |name: &str| Run::create(&dir.path().join(format!("{name}-{pieces:?}"))).unwrap();
        let (whole, broken, only) = (run("whole"), run("broken"), run("only"));
        let record = harvest(&plan, &whole, &mut |_| Ok(())).unwrap();
        assert!(record.parts.len() >= 2 && record.spec.hooks.is_sorted());
        let listed = fs::read_to_string(whole.root().join("run.json")).unwrap();
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let expected = serde_json::json!(["layers.0.attn_out", "layers.1.mlp_in", "layers.1.mlp_out", 1]);
        assert_eq!(listed["steps"]["harvest"]["layers"], expected, "{listed:#}");
        let mut batches = 0;
        let stopped = harvest(&plan, &broken, &mut |_| {
            batches += 1;
            if batches < 4 { Ok(()) } else { Err(sae_core::Error::Cancelled.into()) }
        });
        assert!(stopped.is_err());
        harvest(&plan, &broken, &mut |_| Ok(())).unwrap();
        // The residual stream alone is what it is beside other hooks.
        harvest(&Plan { hooks: vec![Hook::block(1)], ..plan.clone() }, &only, &mut |_| Ok(())).unwrap();
        assert_eq!(values(&only, Hook::block(1)), values(&whole, Hook::block(1)));
        for hook in &hooks {
            let file = format!("activations/{hook}/shard-00001.safetensors");
            let bytes = |run: &Run| fs::read(run.root().join(&file)).unwrap();
            assert!(bytes(&whole) == bytes(&broken), "{hook}");
            assert_ne!(values(&whole, *hook), values(&whole, hooks[usize::from(*hook == hooks[0])]), "{hook}");
        }
        let other = Plan { hooks: vec![Hook::new(1, Site::MlpOut)], ..plan.clone() };
        let refused = harvest(&other, &whole, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(refused.contains("layers.0.attn_out, layers.1.mlp_in, layers.1.mlp_out, layers.1"), "{refused}");
    }
}

#[test]
fn images_are_captured_at_hooks_before_the_decoder_and_rows_without_them_are_skipped() {
    let (dir, model) = bad_input::checkpoint();
    let folder = dir.path().join("data");
    data(&folder);
    let rows = fs::read_to_string(folder.join("data.jsonl")).unwrap() + "\n{\"text\": \"No image here.\"}\n";
    fs::write(folder.join("data.jsonl"), rows).unwrap();
    let plan = |hooks: &[Hook]| Plan {
        device: DeviceChoice::Cpu,
        part_rows: 60,
        batch_tokens: 50,
        ..Plan::new(&model, folder.join("data.jsonl"), hooks.to_vec())
    };
    let checkpoint = Checkpoint::open(&model).unwrap();
    let (config, vision) = (checkpoint.config(), Hook::new(1, Site::Vision));
    for hook in [Hook::PROJECTOR, vision] {
        let run = Run::create(&dir.path().join(hook.to_string())).unwrap();
        let record = harvest(&plan(&[hook]), &run, &mut |_| Ok(())).unwrap();
        assert_eq!((record.spec.d_in, record.skipped.len()), (config.width_at(hook), 1));
        let reason = &record.skipped[0].reason;
        assert!(reason.contains("no images") && reason.contains(&hook.to_string()), "{reason}");
        let store = Store::open(&run, &hook.to_string()).unwrap();
        let columns = store.tokens(0).unwrap();
        assert!(columns.modality.iter().all(|modality| *modality == Modality::Image));
        let first = columns.sample.iter().take_while(|sample| **sample == columns.sample[0]).count();
        assert_eq!(columns.position[..first], (0..first as u32).collect::<Vec<_>>());
        // Every row has a rectangle of its own in the image.
        let samples = load_samples(&run).unwrap();
        assert!(samples.len() == 12 && samples.iter().all(|sample| sample.images.len() == 1));

        let broken = Run::create(&dir.path().join(format!("{hook}-broken"))).unwrap();
        let mut batches = 0;
        let stopped = harvest(&plan(&[hook]), &broken, &mut |_| {
            batches += 1;
            if batches < 3 { Ok(()) } else { Err(sae_core::Error::Cancelled.into()) }
        });
        assert!(stopped.is_err());
        harvest(&plan(&[hook]), &broken, &mut |_| Ok(())).unwrap();
        assert_eq!(values(&broken, hook), values(&run, hook));
    }
    let run = Run::create(&dir.path().join("refused")).unwrap();
    let refused = |plan: &Plan| harvest(plan, &run, &mut |_| Ok(())).unwrap_err();
    assert!(matches!(refused(&plan(&[Hook::PROJECTOR, Hook::block(1)])), Error::BesideImages { .. }));
    assert!(matches!(refused(&plan(&[Hook::new(9, Site::Vision)])), Error::UnknownTowerBlock { asked: 9, .. }));
    let pieces = Plan { pieces: Some(Pieces::Answers), ..plan(&[vision]) };
    assert!(matches!(refused(&pieces), Error::PiecesOfImages { .. }));
    assert!(matches!(SpliceRunner::open(&plan(&[vision])).err(), Some(Error::BeforeDecoder { .. })));
    let words = Plan { model: repository().join("tests/golden/text-llama"), ..plan(&[vision]) };
    assert!(matches!(refused(&words), Error::NoTower { .. }));
}

#[test]
fn patches_of_a_position_divide_its_rectangle() {
    // Positions of Gemma 3 and 4 pool squares of patches, Qwen's merge them, and LLaVA-NeXT's tiles have some that nobody sees.
    for (name, hook) in [("gemma3-a", 0), ("gemma4-a", 1), ("qwen3_vl-a", 1), ("llava-next-a", 0), ("openvla-a", 0)] {
        let golden = Golden::open(name);
        let dir = tempfile::tempdir().unwrap();
        let image = golden.folder.join("images/wide.png");
        fs::copy(image, dir.path().join("wide.png")).unwrap();
        let row = r#"{"image": "wide.png", "question": "What?", "answer": "A word."}"#;
        fs::write(dir.path().join("data.jsonl"), row).unwrap();
        let hook = Hook::new(hook, Site::Vision);
        let run = |hook: Hook| {
            let run = Run::create(&dir.path().join(hook.to_string())).unwrap();
            let plan = Plan::new(&golden.folder, dir.path().join("data.jsonl"), vec![hook]);
            harvest(&Plan { device: DeviceChoice::Cpu, ..plan }, &run, &mut |_| Ok(())).unwrap();
            let store = Store::open(&run, &hook.to_string()).unwrap();
            let table = store.token_table(0).unwrap();
            let tokens = table.tokens(table.rows(0).unwrap()).unwrap();
            let rects: Vec<[f32; 4]> = tokens.iter().filter_map(|token| token.rect).collect();
            let area = |[x0, y0, x1, y1]: &[f32; 4]| f64::from((x1 - x0) * (y1 - y0));
            let sum: f64 = rects.iter().map(area).sum();
            (rects.len(), sum)
        };
        let ((positions, whole), (patches, parts)) = (run(Hook::PROJECTOR), run(hook));
        assert!(patches >= positions || name == "llava-next-a", "{name}: {patches} patches, {positions} positions");
        // Newlines of LLaVA-NeXT show a row of tiles once more.
        let expected = if name == "llava-next-a" { whole - 1.0 } else { whole };
        assert!((parts - expected).abs() < 1e-3, "{name}: {parts}, expected {expected}");
    }
}
