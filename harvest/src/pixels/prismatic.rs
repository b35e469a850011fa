//! The image processor of Prismatic models (OpenVLA), which describes two towers in one file, as two of the ordinary kind.
//! Reads no image.

use crate::fields::{Fields, short};
use serde_json::{Value, json};

/// The settings of the two towers' image processors.
///
/// # Errors
/// A field is missing or not valid, there are not two towers, the two need images of different sizes, or the image is
/// resized in a way that is not supported.
pub(super) fn towers(config: &Value) -> Result<[Value; 2], String> {
    let fields = Fields(config);
    let strategy = fields.or("image_resize_strategy", "letterbox".to_owned())?;
    if strategy != "resize-naive" {
        return Err(format!("image_resize_strategy {strategy:?} is not supported: expected resize-naive"));
    }
    let sizes: [[usize; 3]; 2] = pair(fields, "input_sizes")?;
    let filters: [String; 2] = pair(fields, "interpolations")?;
    if sizes[0] != sizes[1] || filters[0] != filters[1] {
        return Err(format!(
            "the two towers resize images differently: {:?} {} and {:?} {}",
            sizes[0], filters[0], sizes[1], filters[1]
        ));
    }
    let resample = match filters[0].as_str() {
        "lanczos" => 1,
        "bilinear" => 2,
        "bicubic" => 3,
        other => {
            return Err(format!("interpolation {other:?} is not supported: expected bicubic, bilinear or lanczos"));
        }
    };
    let [means, stds]: [[[f64; 3]; 2]; 2] = [pair(fields, "means")?, pair(fields, "stds")?];
    let [_, height, width] = sizes[0];
    let name = &config["image_processor_type"];
    Ok([0, 1].map(|tower| {
        json!({"image_processor_type": name, "do_resize": true, "size": {"height": height, "width": width},
            "resample": resample, "do_center_crop": false, "do_rescale": true, "rescale_factor": 1.0 / 255.0,
            "do_normalize": true, "image_mean": means[tower], "image_std": stds[tower]})
    }))
}

/// A field with one entry for each of the two towers.
fn pair<T: serde::de::DeserializeOwned>(fields: Fields, name: &str) -> Result<[T; 2], String> {
    let expected = || format!("invalid {name} {}: expected one entry for each of two towers", short(&fields.0[name]));
    fields.get(name).map_err(|_| expected())?.ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_that_do_not_fit_two_towers_are_rejected() {
        let config = json!({"image_resize_strategy": "resize-naive", "input_sizes": [[3, 8, 8], [3, 8, 8]],
            "interpolations": ["bicubic", "bicubic"], "means": [[0.4, 0.4, 0.4], [0.5, 0.5, 0.5]],
            "stds": [[0.2, 0.2, 0.2], [0.5, 0.5, 0.5]]});
        let both = towers(&config).unwrap();
        assert_eq!((&both[0]["image_mean"], &both[1]["image_std"]), (&json!([0.4, 0.4, 0.4]), &json!([0.5, 0.5, 0.5])));
        for (name, value, expected) in [
            ("image_resize_strategy", json!("letterbox"), "letterbox"),
            ("input_sizes", json!([[3, 8, 8], [3, 9, 9]]), "resize images differently"),
            ("interpolations", json!(["area", "area"]), "area"),
            ("means", json!([[0.4, 0.4, 0.4]]), "one entry for each of two towers"),
            ("stds", Value::Null, "stds null"),
        ] {
            let mut changed = config.clone();
            changed[name] = value;
            let error = towers(&changed).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
