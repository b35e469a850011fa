//! The released autoencoders that SAELens lists (MIT, Copyright (c) 2023 Joseph Bloom), as far as a search needs them. The list ships
//! with the program; `docs/released_saes.py` writes it and says what its lines mean. Sends no request and reads no weights.

use super::Architecture;
use super::formats::Format;
use crate::nearest::{NEAREST, nearest};
use crate::store::{Hook, Site, hooks};
use flate2::read::GzDecoder;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::LazyLock;

/// The list as `docs/released_saes.py` writes it.
const LIST: &[u8] = include_bytes!("released.txt.gz");

/// An autoencoder that was released on the hub.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    /// SAELens' name of the release that it belongs to.
    pub release: String,
    /// SAELens' name of the autoencoder in the release.
    pub id: String,
    /// Repository on the hub, `owner/name`.
    pub repo: String,
    /// Folder or file in the repository.
    pub path: String,
    /// The model that it was trained on, as SAELens calls it.
    pub model: String,
    /// The hook: by this workbench's name if it is one that is captured, otherwise by TransformerLens' name; empty if only the
    /// configuration of the autoencoder has it.
    pub hook: String,
    /// Decoder block in the name of the hook.
    pub layer: Option<usize>,
    /// How it was trained, where that is known without its files.
    pub architecture: Option<Architecture>,
    /// Mean number of active features per token.
    pub l0: Option<f64>,
    /// The format of its files; `None` for one that is not read.
    pub format: Option<Format>,
}

impl Released {
    /// Whether its hook is one that is captured.
    pub fn is_captured(&self) -> bool {
        self.captured().is_some()
    }

    fn captured(&self) -> Option<Hook> {
        self.hook.parse().ok()
    }

    /// Everything that a word of a search is looked for in.
    fn text(&self) -> String {
        let architecture = self.architecture.map_or("", Architecture::name);
        let is_residual = self.captured().is_some_and(|hook| hook.site() == Site::Output);
        let kind = if is_residual { "residual" } else { "" };
        let fields = [&self.release, &self.id, &self.repo, &self.path, &self.model, &self.hook, architecture, kind]
            .map(|s| s as &str);
        fields.join(" ").to_lowercase()
    }
}

/// All of them, in the order of the list.
pub fn all() -> &'static [Released] {
    static ALL: LazyLock<Vec<Released>> = LazyLock::new(|| {
        let mut text = String::new();
        let read = GzDecoder::new(LIST).read_to_string(&mut text);
        read.ok().and_then(|_| parse(&text)).expect("the list that is part of the program is whole")
    });
    &ALL
}

/// The autoencoders in a list; `None` if a line is not one that the script writes.
fn parse(text: &str) -> Option<Vec<Released>> {
    let (mut all, mut release): (Vec<Released>, Option<[&str; 5]>) = (Vec::new(), None);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            ["R", name, model, repo, format, architecture] => release = Some([name, model, repo, format, architecture]),
            ["S", id, path, hook, l0] => {
                let [name, model, repo, format, architecture] = release?;
                let (hook, layer) = if hook == "-" { ("".into(), None) } else { with_layer(hook) };
                all.push(Released {
                    release: name.into(),
                    id: id.into(),
                    repo: repo.into(),
                    path: if path == "=" { id } else { path }.into(),
                    model: model.into(),
                    hook,
                    layer,
                    architecture: known(architecture)?,
                    l0: known(l0)?,
                    format: known(format)?,
                });
            }
            _ => return None,
        }
    }
    Some(all)
}

/// The value of a field, in which `-` stands for nothing. The outer `None` is for a field that cannot be read.
fn known<T: std::str::FromStr>(field: &str) -> Option<Option<T>> {
    if field == "-" { Some(None) } else { field.parse().ok().map(Some) }
}

fn with_layer(hook: &str) -> (String, Option<usize>) {
    let has_layer = hook.split('.').any(|part| part.parse::<usize>().is_ok());
    let (hook, layer) = hooks::of_tool(hook);
    (hook, has_layer.then_some(layer))
}

/// Finds those that have all of the words, upper and lower case alike, anywhere in their names, repository, path, model, hook or
/// architecture. `layer 17`, `layer=17` and `layers.17` ask for a decoder block. Those that can be captured and read come first, otherwise
/// in the order of the list.
pub fn search(words: &[String]) -> Vec<&'static Released> {
    let (words, layer) = question(words);
    let fits = |released: &&Released| {
        let text = released.text();
        layer.is_none_or(|layer| released.layer == Some(layer)) && words.iter().all(|word| text.contains(word.as_str()))
    };
    let mut found: Vec<_> = all().iter().filter(fits).collect();
    found.sort_by_key(|released| (!released.is_captured(), released.format.is_none()));
    found
}

/// The words of a search in lower case, and the decoder block that they ask for.
fn question(words: &[String]) -> (Vec<String>, Option<usize>) {
    let words: Vec<String> = words.iter().flat_map(|word| word.split_whitespace()).map(str::to_lowercase).collect();
    let (mut rest, mut layer, mut at) = (Vec::new(), None, 0);
    while let Some(word) = words.get(at) {
        at += 1;
        let number = word.strip_prefix("layers.").or_else(|| word.strip_prefix("layer=")).and_then(|n| n.parse().ok());
        let next = words.get(at).filter(|_| word == "layer").and_then(|next| next.parse().ok());
        at += usize::from(next.is_some());
        match number.or(next) {
            Some(number) => layer = Some(number),
            None => rest.push(word.clone()),
        }
    }
    (rest, layer)
}

/// The autoencoder at a path of a repository.
pub fn at(repo: &str, path: &str) -> Option<&'static Released> {
    all().iter().find(|released| released.repo == repo && released.path == path)
}

/// The autoencoders of a release.
pub fn of_release(release: &str) -> Vec<&'static Released> {
    all().iter().filter(|released| released.release == release).collect()
}

/// The models with how many autoencoders they have, and how many of those can be captured and read.
pub fn models() -> BTreeMap<&'static str, (usize, usize)> {
    let mut models = BTreeMap::new();
    for released in all() {
        let (count, usable) = models.entry(&released.model[..]).or_insert((0, 0));
        *count += 1;
        *usable += usize::from(released.is_captured() && released.format.is_some());
    }
    models
}

/// The names of models, repositories and releases that are nearest to the words of a search that found nothing.
pub fn nearest_names(words: &[String]) -> Vec<String> {
    let names: BTreeSet<&str> =
        all().iter().flat_map(|released| [&released.model[..], &released.repo, &released.release]).collect();
    // Only of words that are in no name: those that are do not need another one.
    let texts: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    let (words, _) = question(words);
    let unknown = words.iter().filter(|word| !texts.iter().any(|text| text.contains(word.as_str())));
    let found: BTreeSet<String> = unknown.flat_map(|word| nearest(word, names.iter().copied())).collect();
    found.into_iter().take(NEAREST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_list_has_what_saelens_lists() {
        let all = all();
        let captured = all.iter().filter(|released| released.is_captured()).count();
        let readable = all.iter().filter(|released| released.is_captured() && released.format.is_some()).count();
        assert_eq!((all.len(), captured, readable), (13_857, 11_291, 11_074));
        let gemma = at("google/gemma-scope-2-4b-it", "resid_post/layer_17_width_16k_l0_medium").unwrap();
        assert_eq!(
            (&gemma.release[..], &gemma.model[..], &gemma.hook[..], gemma.format),
            ("gemma-scope-2-4b-it-res", "google/gemma-3-4b-it", "layers.17", Some(Format::GemmaScope2))
        );
        // The input of a block is the output of the block before it; that of the first block is no block's output.
        let jb = of_release("gpt2-small-res-jb");
        let hooks: Vec<_> = jb.iter().map(|released| (&released.id[..], &released.hook[..])).collect();
        assert!(hooks.contains(&("blocks.1.hook_resid_pre", "layers.0")), "{hooks:?}");
        assert!(hooks.contains(&("blocks.0.hook_resid_pre", "blocks.0.hook_resid_pre")), "{hooks:?}");
        // A setting that no file of the release has would be missing.
        assert!(of_release("mistral-7b-res-wg").iter().all(|released| released.format.is_none()));
    }

    #[test]
    fn a_search_takes_words_and_a_layer_and_shows_first_what_can_be_used() {
        let found = search(&words("gemma-3-4b-IT layer 17"));
        assert!(!found.is_empty() && found.iter().all(|r| r.layer == Some(17) && r.model == "google/gemma-3-4b-it"));
        let usable = found.iter().take_while(|r| r.is_captured()).count();
        assert!(usable > 0 && usable < found.len() && found[usable..].iter().all(|r| !r.is_captured()));
        assert_eq!(search(&words("gemma-3-4b-it layers.17")), found);
        assert_eq!(search(&words("gemma-3-4b-it layer=17")), found);
        let residual: Vec<_> = found.iter().copied().filter(|released| released.hook == "layers.17").collect();
        assert!(!residual.is_empty() && residual.len() < usable);
        assert_eq!(search(&words("gemma-3-4b-it layer 17 residual")), residual);
        assert!(search(&words("qwen3-8b-base topk layer 3")).iter().all(|r| r.format == Some(Format::QwenScope)));
        assert!(search(&words("gemma-3-4b-it layer 99")).is_empty());
    }

    #[test]
    fn unknown_names_have_nearest_ones_and_nonsense_has_none() {
        assert!(search(&words("gema-3-4b-it")).is_empty());
        let near = nearest_names(&words("gema-3-4b-it layer 17"));
        assert!(near.contains(&"google/gemma-3-4b-it".to_owned()), "{near:?}");
        assert_eq!(nearest_names(&words("xyzzy")), Vec::<String>::new());
    }

    #[test]
    fn a_list_with_another_line_is_no_list() {
        assert_eq!(
            parse("R\tr\tm\to/n\tsae-lens\ttopk\nS\ta\t=\tblocks.2.hook_resid_post\t7.5\n").unwrap()[0].l0,
            Some(7.5)
        );
        for line in ["S\ta\t=\t-\t-", "R\tr\tm\to/n\tother\t-\nS\ta\t=\t-\t-", "R\tr", "T"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
