//! Published autoencoders: how one on the hub is named, which of its repository's files are downloaded, and whether it belongs to the
//! activations of a run; and the search in the list of released ones.

use crate::control::{Control, Detail, Stage};
use crate::error::PublishedError;
use crate::{Error, Result};
use harvest::hub::{Hub, Repository};
use sae_core::Run;
use sae_core::autoencoder::formats::listing::{self, Listed};
use sae_core::autoencoder::formats::{Format, Origin};
use sae_core::autoencoder::released::{self, Released};
use sae_core::nearest::nearest;
use sae_core::store::{Hook, Manifest};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// How the name of an autoencoder on the hub begins.
pub const HUB: &str = "hub:";

/// The branch that is used if none is named.
const MAIN: &str = "main";

/// How many autoencoders an error names.
const NAMED: usize = 12;

/// An autoencoder on the hub: `hub:OWNER/REPO[@REVISION][/PATH]`, or `hub:RELEASE/ID` by the names of SAELens.
///
/// ```
/// use sae_workbench::published::HubSae;
///
/// let sae: HubSae = "hub:google/gemma-scope-2-4b-it@main/resid_post/layer_17_width_16k_l0_medium".parse()?;
/// assert_eq!((&sae.repo[..], &sae.path[..]), ("google/gemma-scope-2-4b-it", "resid_post/layer_17_width_16k_l0_medium"));
/// let same: HubSae = "hub:gemma-scope-2-4b-it-res/layer_17_width_16k_l0_medium".parse()?;
/// assert_eq!(same, sae);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HubSae {
    /// Repository, `owner/name`.
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Folder or file in the repository; empty for the repository itself.
    pub path: String,
}

impl std::str::FromStr for HubSae {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix(HUB).unwrap_or(text);
        let expected = || {
            format!("invalid name {text:?}: expected {HUB}OWNER/REPO, {HUB}OWNER/REPO@REVISION/PATH or {HUB}RELEASE/ID")
        };
        let (owner, rest) = name.split_once('/').ok_or_else(expected)?;
        let of_release = released::of_release(owner);
        if !of_release.is_empty() {
            let found = of_release.iter().find(|released| released.id == rest);
            return found.map(|released| Self::from(*released)).ok_or_else(|| {
                let near = nearest(rest, of_release.iter().map(|released| &released.id[..]));
                let near =
                    if near.is_empty() { of_release.iter().map(|r| r.id.clone()).take(3).collect() } else { near };
                format!("the release {owner} has no {rest}, but {}: {}", of_release.len(), near.join(", "))
            });
        }
        let (repo, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (repo, revision) = repo.split_once('@').unwrap_or((repo, MAIN));
        if owner.is_empty() || repo.is_empty() || revision.is_empty() {
            return Err(expected());
        }
        Ok(Self { repo: format!("{owner}/{repo}"), revision: revision.into(), path: path.trim_matches('/').into() })
    }
}

impl fmt::Display for HubSae {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let at = if self.revision == MAIN { String::new() } else { format!("@{}", self.revision) };
        let path = if self.path.is_empty() { String::new() } else { format!("/{}", self.path) };
        write!(f, "{HUB}{}{at}{path}", self.repo)
    }
}

impl From<&Released> for HubSae {
    fn from(released: &Released) -> Self {
        Self { repo: released.repo.clone(), revision: MAIN.into(), path: released.path.clone() }
    }
}

/// A published autoencoder on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Downloaded {
    /// Its folder or file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Its name on the hub, at the commit.
    pub name: HubSae,
}

impl HubSae {
    /// A name for the autoencoder in a run: its path, or the repository's name.
    pub(crate) fn short_name(&self) -> String {
        let whole = if self.path.is_empty() { self.repo.rsplit('/').next().unwrap_or_default() } else { &self.path };
        let stem = [".sae.pt", ".safetensors", ".npz", ".pt"]
            .into_iter()
            .find_map(|end| whole.strip_suffix(end))
            .unwrap_or(whole);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let name: String = stem.chars().map(plain).collect();
        // What distinguishes it is at the end.
        let start = name.len().saturating_sub(100);
        name[start..].trim_start_matches(['.', '-']).to_owned()
    }

    /// The entry of the list of released autoencoders, if it is one.
    pub(crate) fn released(&self) -> Option<&'static Released> {
        released::at(&self.repo, &self.path)
    }

    /// Downloads the files of the autoencoder, unless they are in the cache.
    pub(crate) fn download(&self, control: &mut Control) -> Result<Downloaded> {
        let hub = Hub::from_env()?;
        let repository = hub.repository(&self.repo, &self.revision)?.ok_or_else(|| {
            let known = released::all().iter().map(|released| &released.repo[..]);
            PublishedError::NoRepository { name: self.to_string(), nearest: nearest(&self.repo, known) }
        })?;
        let listed = self.choose(&repository)?;
        let mut staged = control.stage(Stage::Download, None)?;
        let folder = hub.download(&repository, &listed.files, &mut |progress| {
            staged.extend(progress.total);
            Ok(staged.advance_with(progress.bytes, Detail::Transfer { file: progress.file })?)
        })?;
        Ok(self.downloaded(&repository, &listed, folder))
    }

    /// The autoencoder in the cache, without a request.
    ///
    /// # Errors
    /// It has not been downloaded.
    pub(crate) fn cached(&self) -> Result<Downloaded> {
        let repository = Hub::from_env()?.cached_repository(&self.repo, &self.revision)?;
        let found = repository.and_then(|repository| {
            let listed = self.choose(&repository).ok()?;
            let folder = repository.folder(&listed.files)?;
            Some(self.downloaded(&repository, &listed, folder))
        });
        found.ok_or_else(|| Error::NotDownloaded { model: self.to_string() })
    }

    fn downloaded(&self, repository: &Repository, listed: &Listed, folder: PathBuf) -> Downloaded {
        let path = if listed.path.is_empty() { folder } else { folder.join(&listed.path) };
        let name = Self { revision: repository.commit(), path: listed.path.clone(), ..self.clone() };
        Downloaded { path, format: listed.format, name }
    }

    /// The autoencoder among the files of the repository.
    fn choose(&self, repository: &Repository) -> Result<Listed> {
        let found = listing::autoencoders(repository.files());
        let below = match listing::at_path(&found, &self.path) {
            Ok(listed) => return Ok(listed.clone()),
            Err(below) => below,
        };
        let name = self.to_string();
        let paths = || found.iter().map(|listed| &listed.path[..]);
        Err(if found.is_empty() {
            PublishedError::NoAutoencoder { name, unlisted: repository.unlisted().map(String::from) }
        } else if below.is_empty() {
            let near = nearest(&self.path, paths());
            let nearest = if near.is_empty() { paths().take(NAMED).map(String::from).collect() } else { near };
            PublishedError::NoPath { name, nearest, unlisted: repository.unlisted().map(String::from) }
        } else {
            let paths = below.iter().map(|listed| listed.path.clone()).take(NAMED).collect();
            PublishedError::Several { name, count: below.len(), paths }
        }
        .into())
    }

    /// Checks that the autoencoder belongs to the activations of a run, as far as the list or its own files (`origin`, once they are here) say
    /// what it was trained on. `any_model` accepts another model; a hook that was chosen, another hook.
    pub(crate) fn check(&self, origin: Option<&Origin>, run: &Run, hook: Option<&str>, any_model: bool) -> Result<()> {
        let released = self.released();
        let said = |listed: Option<&str>, file: Option<&str>| -> Option<String> {
            [listed, file].into_iter().flatten().find(|text| !text.is_empty()).map(String::from)
        };
        let trained_on = said(released.map(|r| &r.model[..]), origin.map(|o| &o.model[..]));
        let its_hook = said(released.map(|r| &r.hook[..]), origin.map(|o| &o.hook[..]));
        if let Some(released) = released.filter(|released| released.format.is_none()) {
            return Err(PublishedError::NotRead { name: self.to_string(), release: released.release.clone() }.into());
        }
        if hook.is_none()
            && let Some(its_hook) = &its_hook
        {
            if its_hook.parse::<Hook>().is_err() {
                return Err(PublishedError::NotCaptured { hook: its_hook.clone() }.into());
            }
            let hooks = run.list("activations");
            if !hooks.contains(its_hook) {
                let run = run.root().to_path_buf();
                return Err(PublishedError::OtherHook { hook: its_hook.clone(), available: hooks, run }.into());
            }
        }
        let hook = hook.map(String::from).or(its_hook);
        if let (Some(trained_on), Some(hook), false) = (trained_on, hook, any_model) {
            let manifest: Manifest = sae_core::store::Store::open_with_pieces(run, &hook)?.manifest().clone();
            if !is_same_model(&trained_on, &manifest.model) {
                let run = run.root().to_path_buf();
                return Err(PublishedError::OtherModel { sae: trained_on, found: manifest.model, run }.into());
            }
        }
        Ok(())
    }
}

/// Whether two names mean the same model: `google/gemma-3-4b-it` and a folder `gemma-3-4b-it` do.
fn is_same_model(a: &str, b: &str) -> bool {
    let plain = |name: &str| {
        let last = name.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or_default();
        last.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_lowercase()
    };
    plain(a) == plain(b)
}

/// What to look for among released autoencoders.
///
/// ```
/// use sae_workbench::published::SearchSaesRequest;
///
/// let words = ["gemma-3-4b-it", "layer", "17", "residual"].map(String::from).to_vec();
/// let report = SearchSaesRequest { words, limit: 5 }.run()?;
/// assert!(report.found > 5 && report.saes.len() == 5 && report.saes[0].captured);
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SearchSaesRequest {
    /// Words that all have to be in what is known of an autoencoder; `layer 17` asks for a decoder block.
    pub words: Vec<String>,
    /// At most this many are returned.
    pub limit: usize,
}

/// Released autoencoders that were found.
#[derive(Clone, Debug, Serialize)]
pub struct SearchSaesReport {
    /// How many there are.
    pub found: usize,
    /// The first of them: those that can be captured and read come first.
    pub saes: Vec<FoundSae>,
}

/// A released autoencoder.
#[derive(Clone, Debug, Serialize)]
pub struct FoundSae {
    /// What `import` takes it by.
    pub from: String,
    /// SAELens' name of the release.
    pub release: &'static str,
    /// SAELens' name of the autoencoder.
    pub id: &'static str,
    /// The model that it was trained on.
    pub model: &'static str,
    /// The hook: by our name if it is captured, else by TransformerLens'; empty if the list does not say.
    pub hook: &'static str,
    /// Its decoder block.
    pub layer: Option<usize>,
    /// How it was trained, where the list says it.
    pub architecture: Option<&'static str>,
    /// Mean number of active features per token, where the list says it.
    pub l0: Option<f64>,
    /// Whether the hook is one that `harvest` captures: the residual stream after a decoder block.
    pub captured: bool,
    /// The format of its files; nothing for one that is not read.
    pub format: Option<&'static str>,
}

impl From<&'static Released> for FoundSae {
    fn from(released: &'static Released) -> Self {
        Self {
            from: HubSae::from(released).to_string(),
            release: &released.release,
            id: &released.id,
            model: &released.model,
            hook: &released.hook,
            layer: released.layer,
            architecture: released.architecture.map(|architecture| architecture.name()),
            l0: released.l0,
            captured: released.is_captured(),
            format: released.format.map(Format::name),
        }
    }
}

impl SearchSaesRequest {
    /// Searches the list that ships with the program. Sends no request.
    ///
    /// # Errors
    /// Nothing was found; the error has the nearest names.
    pub fn run(&self) -> Result<SearchSaesReport> {
        let found = released::search(&self.words);
        if found.is_empty() {
            let nearest = released::nearest_names(&self.words);
            return Err(PublishedError::NothingFound { words: self.words.join(" "), nearest }.into());
        }
        let saes = found.iter().take(self.limit).map(|released| FoundSae::from(*released)).collect();
        Ok(SearchSaesReport { found: found.len(), saes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_repository_a_revision_and_a_path() {
        for (name, repo, revision, path) in [
            ("hub:a/b", "a/b", "main", ""),
            ("a/b/c/d", "a/b", "main", "c/d"),
            ("hub:a/b@v1/c/", "a/b", "v1", "c"),
            (
                "hub:Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_50/layer3.sae.pt",
                "Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_50",
                "main",
                "layer3.sae.pt",
            ),
            (
                "hub:gpt2-small-res-jb/blocks.1.hook_resid_pre",
                "jbloom/GPT2-Small-SAEs-Reformatted",
                "main",
                "blocks.1.hook_resid_pre",
            ),
        ] {
            let sae: HubSae = name.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!((&sae.repo[..], &sae.revision[..], &sae.path[..]), (repo, revision, path), "{name}");
            assert_eq!(sae.to_string().parse(), Ok(sae.clone()));
        }
        for name in ["hub:", "hub:a", "hub:/b", "hub:a/@v", "hub:a/b@"] {
            assert!(name.parse::<HubSae>().unwrap_err().contains("expected hub:OWNER/REPO"), "{name}");
        }
        let near = "hub:gpt2-small-res-jb/blocks.1.hook_resid_pr".parse::<HubSae>().unwrap_err();
        assert!(near.contains("has no blocks.1.hook_resid_pr, but 13: blocks.1.hook_resid_pre"), "{near}");
    }

    #[test]
    fn a_name_in_the_run_comes_from_the_path() {
        for (name, expected) in [
            ("hub:google/gemma-scope-9b-pt-res/layer_20/width_16k/average_l0_68", "layer_20-width_16k-average_l0_68"),
            ("hub:Qwen/x-L0_50/layer3.sae.pt", "layer3"),
            ("hub:me/my.sae", "my.sae"),
        ] {
            let name = name.parse::<HubSae>().unwrap().short_name();
            assert_eq!(name, expected);
            sae_core::store::run::check_name(&name).unwrap();
        }
        let long = HubSae { repo: "a/b".into(), revision: MAIN.into(), path: format!("{}/ü/last", "x".repeat(300)) };
        assert!(long.short_name().ends_with("-last"));
        sae_core::store::run::check_name(&long.short_name()).unwrap();
    }

    #[test]
    fn a_folder_and_a_name_on_the_hub_may_mean_the_same_model() {
        for (a, b) in [
            ("google/gemma-3-4b-it", "gemma-3-4b-it"),
            ("gemma-2-2b", "google/gemma-2-2b"),
            ("Qwen/Qwen3-8B-Base", "qwen3_8b_base"),
        ] {
            assert!(is_same_model(a, b), "{a} {b}");
        }
        for (a, b) in
            [("google/gemma-3-4b-it", "google/gemma-3-4b-pt"), ("gemma-3-4b", "gemma-3-4b-it"), ("a/x", "a/y")]
        {
            assert!(!is_same_model(a, b), "{a} {b}");
        }
    }
}
