//! Image processors of a checkpoint: which of two files counts, the defaults of each class, and settings that contradict the
//! model.

use crate::checkpoint_copy::{CheckpointCopy, HOST};
use crate::golden::Golden;
use harvest::data::{Mapping, Source};
use harvest::model::Input;
use harvest::{Answers, Checkpoint, Templating};
use sae_core::store::Hook;
use serde_json::{Value, json};
use std::fs;

/// Writes the image processor in the newer layout, which is nested, next to the older file. Returns the older one.
fn nest(copy: &CheckpointCopy) -> Value {
    let path = copy.path("processor_config.json");
    let mut processor = if path.exists() { copy.read("processor_config.json") } else { json!({}) };
    let stale = match processor.get("image_processor") {
        // Written by a newer version, which writes no second file.
        Some(nested) => nested.clone(),
        None => copy.read("preprocessor_config.json"),
    };
    processor["image_processor"] = stale.clone();
    copy.write("processor_config.json", &processor);
    stale
}

#[test]
fn a_nested_image_processor_takes_precedence_over_a_separate_one() {
    for name in [
        "llava-a",
        "llava-next-a",
        "llava_onevision-a",
        "smolvlm-a",
        "mistral3-a",
        "internvl-a",
        "qwen2_5_vl-a",
        "qwen3_vl-a",
        "gemma3-a",
        "gemma4-a",
        "paligemma-a",
        "chameleon-a",
    ] {
        let copy = CheckpointCopy::new(name);
        let mut stale = nest(&copy);
        let fields = stale.as_object_mut().unwrap();
        fields.insert("image_mean".into(), json!([0.1, 0.2, 0.3]));
        fields.insert("resample".into(), json!(2));
        fields.insert("size".into(), json!({"shortest_edge": 4, "longest_edge": 5}));
        copy.write("preprocessor_config.json", &stale);
        copy.check_equals_the_original();
        // Without the nested one, it would be read.
        fs::remove_file(copy.path("processor_config.json")).unwrap();
        let changed = Checkpoint::open(&copy.folder).map(|checkpoint| {
            let image = &copy.golden.samples.iter().find(|sample| !sample.images.is_empty()).unwrap().images[0];
            checkpoint.images().unwrap().frame(image).map(|frame| checkpoint.images().unwrap().image(&frame).patches)
        });
        let original = Golden::open(name);
        let checkpoint = Checkpoint::open(&original.folder).unwrap();
        let image = &original.samples.iter().find(|sample| !sample.images.is_empty()).unwrap().images[0];
        let images = checkpoint.images().unwrap();
        let expected = images.image(&images.frame(image).unwrap()).patches;
        assert!(!matches!(changed, Ok(Ok(patches)) if patches == expected), "{name}");
    }
}

#[test]
fn a_nested_image_processor_that_is_null_counts_as_absent() {
    let copy = CheckpointCopy::new("llava-a");
    copy.write("processor_config.json", &json!({"image_processor": null, "patch_size": null}));
    copy.check_equals_the_original();
    fs::remove_file(copy.path("preprocessor_config.json")).unwrap();
    let error = copy.error();
    assert!(error.contains("no preprocessor_config.json, and none in processor_config.json"), "{error}");
}

#[test]
fn classes_of_image_processors_have_their_own_defaults() {
    let copy = CheckpointCopy::new("llava-a");
    let patches = |change: Value| {
        let mut config = copy.golden_processor();
        config.extend(change.as_object().unwrap().clone());
        config.retain(|_, value| !value.is_null());
        copy.write("preprocessor_config.json", &Value::Object(config));
        let checkpoint = Checkpoint::open(&copy.folder).map_err(|e| e.to_string())?;
        let images = checkpoint.images().unwrap();
        Ok::<_, String>(
            images.image(&images.frame(&copy.golden.samples[0].images[0]).map_err(|e| e.to_string())?).patches,
        )
    };
    let side = json!({"height": 28, "width": 28});
    let original = patches(json!({})).unwrap();
    // Other implementations of the class, and its name before transformers 4.26.
    for name in ["CLIPImageProcessorFast", "CLIPImageProcessorPil", "LlavaImageProcessorFast"] {
        assert_eq!(patches(json!({"image_processor_type": name})).unwrap(), original, "{name}");
    }
    let older = json!({"image_processor_type": null, "feature_extractor_type": "CLIPFeatureExtractor"});
    assert_eq!(patches(older).unwrap(), original);
    // The default resampling is bicubic for SigLIP and bilinear for Gemma, and neither cuts out the center.
    let bare = |name: &str, resample: Value| json!({"image_processor_type": name, "size": side, "resample": resample, "do_center_crop": null, "crop_size": null});
    let siglip = patches(bare("SiglipImageProcessor", Value::Null)).unwrap();
    assert_eq!(siglip, patches(bare("SiglipImageProcessor", 3.into())).unwrap());
    let gemma = patches(bare("Gemma3ImageProcessor", Value::Null)).unwrap();
    assert_eq!(gemma, patches(bare("SiglipImageProcessor", 2.into())).unwrap());
    assert_ne!(siglip, gemma);
    // A single number is the side of a square for Gemma, and the shorter edge for the others. Two numbers are height and width.
    let sized = |name: &str, size: Value| json!({"image_processor_type": name, "size": size, "do_center_crop": null, "crop_size": null});
    assert_eq!(
        patches(sized("Gemma3ImageProcessor", 28.into())).unwrap(),
        patches(sized("Gemma3ImageProcessor", side.clone())).unwrap()
    );
    assert_eq!(patches(sized("SiglipImageProcessor", json!([28, 28]))), patches(sized("SiglipImageProcessor", side)));
    let error = patches(sized("SiglipImageProcessor", 28.into())).unwrap_err();
    assert!(error.contains("images of any size"), "{error}");
    let error = patches(json!({"image_processor_type": "ViTImageProcessor"})).unwrap_err();
    assert!(error.contains("the image processor ViTImageProcessor does not fit the model"), "{error}");
    let error =
        patches(json!({"image_processor_type": null, "feature_extractor_type": "ViTFeatureExtractor"})).unwrap_err();
    assert!(error.contains("ViTImageProcessor"), "{error}");
}

#[test]
fn pixel_bounds_beside_the_size_take_precedence_over_those_in_it() {
    // The files of Qwen2.5-VL have `min_pixels` and `max_pixels` beside or inside a size.
    let copy = CheckpointCopy::new("qwen2_5_vl-a");
    let original = copy.golden_processor();
    let (least, most) = (original["min_pixels"].clone(), original["max_pixels"].clone());
    let with = |size: Value| {
        let mut config = original.clone();
        config.insert("size".into(), size);
        copy.write("preprocessor_config.json", &Value::Object(config));
    };
    for size in [
        json!({"shortest_edge": 3136, "longest_edge": 12_845_056}),
        json!({"min_pixels": 3136, "max_pixels": 12_845_056}),
    ] {
        with(size);
        copy.check_equals_the_original();
    }
    let mut inside = original.clone();
    inside.retain(|name, _| !name.ends_with("_pixels"));
    inside.insert("size".into(), json!({"shortest_edge": least, "longest_edge": most}));
    copy.write("preprocessor_config.json", &Value::Object(inside));
    copy.check_equals_the_original();
}

#[test]
fn images_of_gemma_4_that_are_not_resized_have_no_more_patches_per_side_than_the_tower_has_positions() {
    let copy = CheckpointCopy::new("gemma4-b");
    let mut processor = copy.read("processor_config.json");
    processor["image_processor"]["do_resize"] = false.into();
    copy.write("processor_config.json", &processor);
    let checkpoint = copy.open();
    let model = checkpoint.load(None, &HOST).unwrap();
    let images = checkpoint.images().unwrap();
    let frame = |width: u32, height: u32| {
        let mut file = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(width, height).write_to(&mut file, image::ImageFormat::Png).unwrap();
        images.frame(file.get_ref()).map_err(|error| error.to_string())
    };
    // There are 160 positions for rows and for columns, of patches with 3 pixels.
    let image = images.image(&frame(480, 6).unwrap());
    let id = checkpoint.config().vision.as_ref().unwrap().image_token_id;
    let input = Input { ids: vec![id; 80], images: vec![image], prefix: 0 };
    model.hidden(&[&input], &[Hook::block(0)]).unwrap();
    for (width, height) in [(486, 6), (6, 486)] {
        let expected = format!("the image has {width}x{height} pixels: expected sides of at most 480");
        assert_eq!(frame(width, height).unwrap_err(), expected);
    }
}

#[test]
fn a_processor_that_counts_positions_differently_from_the_model_is_rejected() {
    let check_error = |name: &str, processor: Value, named: &str| {
        let copy = CheckpointCopy::new(name);
        copy.write("processor_config.json", &processor);
        let error = copy.error();
        assert!(error.contains(named), "{error}");
    };
    check_error("llava-a", json!({"patch_size": 5}), "patch_size is 5 in the processor: expected 7");
    let counted = json!({"vision_feature_select_strategy": "full", "num_additional_image_tokens": 1});
    check_error("llava-a", counted, "num_additional_image_tokens is 1 in the processor: expected 0");
    check_error("gemma3-a", json!({"image_seq_length": 256}), "image_seq_length is 256 in the processor: expected 9");
    let counted = json!({"vision_aspect_ratio": "anyres_max_4", "num_image_tokens": 729});
    check_error("llava_onevision-a", counted, "num_image_tokens is 729 in the processor: expected 9");
    let default = json!({"num_image_tokens": 9});
    check_error(
        "llava_onevision-a",
        default,
        "vision_aspect_ratio is anyres_max_9 in the processor: expected anyres_max_4",
    );
    check_error("internvl-a", json!({}), "image_seq_length is 256 in the processor: expected 4");
    check_error("mistral3-a", json!({}), "patch_size times spatial_merge_size is 16 in the processor: expected 8");
    check_error("idefics3-a", json!({}), "image_seq_len is 169 in the processor: expected 1");
    check_error("smolvlm-a", json!({"image_seq_len": 16}), "image_seq_len is 16 in the processor: expected 4");
    let copy = CheckpointCopy::new("paligemma-a");
    let mut counted = copy.golden_processor();
    counted.insert("image_seq_length".into(), 256.into());
    copy.write("preprocessor_config.json", &Value::Object(counted));
    let error = copy.error();
    assert!(error.contains("image_seq_length is 256 in the processor: expected 16"), "{error}");
    let copy = CheckpointCopy::new("gemma4-a");
    for (field, value, named) in [
        ("max_soft_tokens", json!(71), "max_soft_tokens 71"),
        ("max_soft_tokens", json!(280), "does not fit the 256 learned positions"),
        ("pooling_kernel_size", json!(2), "expected [Some(2), Some(3)]"),
        ("patch_size", json!("x"), "expected [Some(2), Some(3)]"),
    ] {
        let path = copy.golden.folder.join("processor_config.json");
        let mut processor: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        processor["image_processor"][field] = value;
        copy.write("processor_config.json", &processor);
        let error = copy.error();
        assert!(error.contains(named), "{error}");
    }
    let copy = CheckpointCopy::new("llava-a");
    copy.write("processor_config.json", &json!({"patch_size": 7, "vision_feature_select_strategy": "default"}));
    copy.check_equals_the_original();
}

#[test]
fn a_row_whose_images_alone_exceed_the_context_is_skipped_for_their_positions() {
    let copy = CheckpointCopy::new("llava-a");
    copy.edit(|config| config["text_config"]["max_position_embeddings"] = 15.into());
    fs::copy(copy.golden.folder.join("images/square.png"), copy.path("square.png")).unwrap();
    let turns = json!([{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "A ring."}]);
    let data = copy.path("data.json");
    fs::write(&data, json!([{"id": 1, "image": "square.png", "conversations": turns}]).to_string()).unwrap();
    let row = Source::open(&data).unwrap().rows(&Mapping::new()).unwrap().next().unwrap().unwrap();
    let skipped = copy.open().prepare(row, Answers::All, Templating::Auto).unwrap_err();
    assert_eq!(skipped.reason, "the row has 16 positions of images, more than the model's context of 15");
}

#[test]
fn an_image_of_too_many_tiles_or_positions_is_rejected_before_they_are_made() {
    let copy = CheckpointCopy::new("smolvlm-a");
    let mut processor = copy.golden_processor();
    processor.insert("size".into(), json!({"longest_edge": 4096}));
    copy.write("preprocessor_config.json", &Value::Object(processor));
    let frames = |checkpoint: &Checkpoint, context: usize| {
        let image = &copy.golden.samples.iter().find(|sample| !sample.images.is_empty()).unwrap().images[0];
        let frames = checkpoint.images().unwrap().frames(&[image], context);
        frames.map(|frames| frames[0].positions.len()).map_err(|error| error.to_string())
    };
    let tiles = frames(&copy.open(), usize::MAX).unwrap_err();
    assert!(tiles.contains("tiles: expected at most 1024 tiles"), "{tiles}");

    for name in ["mistral3-a", "qwen2_5_vl-a"] {
        let checkpoint = Checkpoint::open(&Golden::open(name).folder).unwrap();
        let positions = frames(&checkpoint, usize::MAX).unwrap();
        assert_eq!(frames(&checkpoint, positions), Ok(positions), "{name}");
        let error = frames(&checkpoint, positions - 1).unwrap_err();
        let less = positions - 1;
        assert_eq!(error, format!("the image has {positions} positions, more than the model's context of {less}"));
    }
}
