//! Autoencoders in a list of file names, such as that of a repository: which there are, and which files each of them consists of. Reads no
//! file.

use super::{Format, crosscoder, llama_scope, qwen_scope};
use std::collections::BTreeSet;
use std::path::Path;

/// Files beside those of [`Format::Crosscoder`] by which a folder is a language model.
const OF_LANGUAGE_MODELS: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "tokenizer.model", "generation_config.json"];

/// An autoencoder in a list of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its folder in the list; its file where a folder may hold several; empty if it is the whole list's.
    pub path: String,
    /// The format that its names are those of.
    pub format: Format,
    /// The files that it consists of, the weights last.
    pub files: Vec<String>,
}

/// The autoencoders among files with these names, which are relative to one folder and have `/` between their parts.
///
/// ```
/// use sae_core::autoencoder::formats::{Format, listing};
///
/// let names = ["README.md", "layer_3/config.json", "layer_3/params.safetensors", "layer12.sae.pt"].map(String::from);
/// let found = listing::autoencoders(&names);
/// assert_eq!((&found[1].path[..], found[1].format), ("layer_3", Format::GemmaScope2));
/// assert_eq!((&found[0].path[..], found[0].format), ("layer12.sae.pt", Format::QwenScope));
/// ```
pub fn autoencoders(names: &[String]) -> Vec<Listed> {
    let all: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let folders: BTreeSet<&str> = all.iter().flat_map(|name| ancestors(name)).collect();
    let mut found: Vec<Listed> = folders.into_iter().filter_map(|folder| in_folder(folder, &all)).collect();
    let of_qwen_scope = all.iter().filter(|name| qwen_scope::layer(Path::new(name)).is_some());
    found.extend(of_qwen_scope.map(|name| Listed {
        path: name.to_string(),
        format: Format::QwenScope,
        files: vec![name.to_string()],
    }));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The autoencoder that a path means: a folder, or a file of one; the only one below a folder.
///
/// # Errors
/// Those below the path if there are several, or nothing.
pub fn at_path<'a>(found: &'a [Listed], path: &str) -> Result<&'a Listed, Vec<&'a Listed>> {
    let exact = found.iter().find(|listed| listed.path == path || listed.files.iter().any(|file| file == path));
    if let Some(listed) = exact {
        return Ok(listed);
    }
    let inside =
        |listed: &&Listed| path.is_empty() || listed.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    match found.iter().filter(inside).collect::<Vec<_>>()[..] {
        [listed] => Ok(listed),
        ref several => Err(several.to_vec()),
    }
}

/// The folders that a file is in, from its own up to the one that all names are relative to.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |path| {
        (!path.is_empty()).then(|| path.rsplit_once('/').map_or("", |(folder, _)| folder))
    })
    .skip(1)
}

fn in_folder(folder: &str, all: &BTreeSet<&str>) -> Option<Listed> {
    let join = |file: &str| if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") };
    let has = |file: &str| all.contains(&join(file)[..]);
    Format::ALL.into_iter().find_map(|format| {
        let required = match format {
            Format::QwenScope => return None,
            Format::LlamaScope => {
                let weights = llama_scope::WEIGHTS.into_iter().find(|weights| has(weights))?;
                vec![llama_scope::CONFIG, weights]
            }
            Format::Crosscoder if OF_LANGUAGE_MODELS.into_iter().any(has) => return None,
            _ => format.files().to_vec(),
        };
        let is_whole = required.iter().all(|file| has(file));
        let beside = format.beside().iter().copied().filter(|file| has(file));
        is_whole.then(|| Listed {
            path: folder.to_owned(),
            format,
            files: beside.chain(required.iter().copied()).map(join).collect(),
        })
    })
}

impl Format {
    /// Files that an autoencoder of this format may have beside those that it must have, and that are read with them.
    fn beside(self) -> &'static [&'static str] {
        match self {
            Self::SaeLens | Self::SaeLensOld => &["activation_scaler.json"],
            Self::DictionaryLearning | Self::GemmaScope2 => &[crosscoder::CONFIG],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Vec<Listed> {
        autoencoders(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn published_layouts_are_found_with_the_files_that_belong_to_them() {
        for (names, path, format, files) in [
            (&["a/cfg.json", "a/sae_weights.safetensors", "a/sparsity.safetensors"][..], "a", Format::SaeLens, 2),
            (&["x/layers.3/cfg.json", "x/layers.3/sae.safetensors"], "x/layers.3", Format::Sparsify, 2),
            (
                &["t/trainer_0/ae.pt", "t/trainer_0/config.json", "t/trainer_0/eval.json"],
                "t/trainer_0",
                Format::DictionaryLearning,
                2,
            ),
            (&["config.json", "sae_weights.safetensors"], "", Format::Llamascopium, 2),
            (&["L3R/hyperparams.json", "L3R/checkpoints/final.safetensors"], "L3R", Format::LlamaScope, 2),
            (&["layer3.sae.pt", "README.md"], "layer3.sae.pt", Format::QwenScope, 1),
            (
                &["layer_20/width_16k/average_l0_68/params.npz"],
                "layer_20/width_16k/average_l0_68",
                Format::GemmaScope1,
                1,
            ),
            (&["resid_post/l/params.safetensors", "resid_post/l/config.json"], "resid_post/l", Format::GemmaScope2, 2),
            (&["resid_post_all/l/params.safetensors"], "resid_post_all/l", Format::GemmaScope2, 1),
            (&["config.json", "model.safetensors"], "", Format::Crosscoder, 2),
            (
                &["blocks.14.hook_resid_pre/cfg.json", "blocks.14.hook_resid_pre/cc_weights.pt"],
                "blocks.14.hook_resid_pre",
                Format::CrosscoderPt,
                2,
            ),
        ] {
            let found = listed(names);
            assert_eq!(found.len(), 1, "{names:?}: {found:?}");
            assert_eq!((&found[0].path[..], found[0].format, found[0].files.len()), (path, format, files));
            assert!(found[0].files.iter().all(|file| names.contains(&&file[..])), "{found:?}");
            let weights = found[0].files.last().unwrap();
            assert!([".npz", ".pt", ".safetensors"].iter().any(|end| weights.ends_with(end)), "{weights} is the last");
        }
        for names in [
            &["config.json", "model.safetensors", "tokenizer.json"][..],
            &["cfg.json", "README.md"],
            &["a/cfg.json", "b/sae_weights.safetensors"],
            &[],
        ] {
            assert_eq!(listed(names), [], "{names:?}");
        }
    }

    #[test]
    fn a_path_means_a_folder_a_file_or_the_only_one_below() {
        let found = listed(&["a/x/params.npz", "a/y/params.npz", "b/z/params.npz", "layer0.sae.pt", "layer1.sae.pt"]);
        for (path, expected) in
            [("a/x", "a/x"), ("a/x/params.npz", "a/x"), ("b", "b/z"), ("layer1.sae.pt", "layer1.sae.pt")]
        {
            assert_eq!(at_path(&found, path).unwrap().path, expected, "{path}");
        }
        assert_eq!(at_path(&found, "a").unwrap_err().len(), 2);
        assert_eq!(at_path(&found, "").unwrap_err().len(), 5);
        assert_eq!(at_path(&found, "c").unwrap_err().len(), 0);
        assert_eq!(at_path(&found, "a/").unwrap_err().len(), 0, "the caller takes slashes away");
    }
}
