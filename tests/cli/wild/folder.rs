//! Makes the folders of a case: checkpoints with something changed, caches of the hub.

use super::case::{Folder, TensorChanges};
use crate::tool::repository;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Makes `folder` at `path`; `expand` resolves the names of files that are copied.
pub fn make(folder: &Folder, path: &Path, expand: &dyn Fn(&str) -> PathBuf) {
    let root = path.join(&folder.to);
    fs::create_dir_all(&root).unwrap();
    let from = folder.from.iter().flat_map(|from| fs::read_dir(repository(from)).unwrap());
    for file in from.map(|entry| entry.unwrap().path()).filter(|file| file.is_file()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        // What a model computes is no part of it.
        if !name.starts_with("golden.") && !folder.without.iter().any(|without| without == name) {
            fs::copy(&file, root.join(name)).unwrap();
        }
    }
    let place = |name: &str| {
        let place = path.join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        place
    };
    for (name, source) in &folder.copies {
        fs::copy(expand(source), place(name)).unwrap();
    }
    for (name, text) in &folder.texts {
        fs::write(place(name), text).unwrap();
    }
    for (name, target) in &folder.links {
        symlink(target, place(name)).unwrap();
    }
    for (name, values) in &folder.set {
        edit(&path.join(name), |json| values.iter().for_each(|(pointer, value)| set(json, pointer, value.clone())));
    }
    for (name, pointers) in &folder.unset {
        edit(&path.join(name), |json| pointers.iter().for_each(|pointer| unset(json, pointer)));
    }
    for (name, changes) in &folder.tensors {
        change_tensors(&path.join(name), changes);
    }
}

fn edit(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut json = fs::read(path).map_or(json!({}), |bytes| serde_json::from_slice(&bytes).unwrap());
    edit(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

fn set(json: &mut Value, pointer: &str, value: Value) {
    let place = pointer.split('/').skip(1).fold(json, |json, key| {
        if !json.is_object() {
            *json = json!({});
        }
        json.as_object_mut().unwrap().entry(key).or_insert(Value::Null)
    });
    *place = value;
}

fn unset(json: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).expect("what is taken out is there");
}

fn change_tensors(path: &Path, changes: &TensorChanges) {
    let renamed = |name: &str| {
        let rule = changes.rename.iter().find_map(|(old, new)| Some(format!("{new}{}", name.strip_prefix(old)?)));
        rule.unwrap_or_else(|| name.to_owned())
    };
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = BTreeMap::new();
    for (name, tensor) in file.iter().filter(|(name, _)| !changes.remove.iter().any(|remove| remove == name)) {
        let (dtype, data) = match changes.wide {
            true => (Dtype::F64, widened(tensor.data())),
            false => (tensor.dtype(), tensor.data().to_vec()),
        };
        tensors.insert(renamed(name), (dtype, tensor.shape().to_vec(), data));
    }
    for (name, shape) in &changes.zeros {
        tensors.insert(name.clone(), (Dtype::F32, shape.clone(), vec![0; 4 * shape.iter().product::<usize>()]));
    }
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let changed = safetensors::serialize(views, None).unwrap();
    fs::write(path, changed).unwrap();
}

/// `f32` as `f64`, little-endian.
fn widened(bytes: &[u8]) -> Vec<u8> {
    let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    values.flat_map(|value| f64::from(value).to_le_bytes()).collect()
}
