//! Where files are uploaded to: `[datasets/]OWNER/REPO[@BRANCH][/PATH]`. Sends no request.

use super::name::RepoName;
use super::repository::is_inside;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// How the name of a data set's repository begins.
const DATASETS: &str = "datasets/";

/// What a repository of the hub is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepoKind {
    /// Models and autoencoders.
    Model,
    /// Data sets.
    Dataset,
}

impl RepoKind {
    /// The kind as requests spell it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        }
    }

    /// What comes before the name of a repository of this kind in its address.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => DATASETS,
        }
    }
}

/// A folder of a repository on the hub.
///
/// ```
/// use harvest::hub::{Destination, RepoKind};
///
/// let folder: Destination = "lab/saes@main/layers.16".parse()?;
/// assert_eq!((folder.kind(), folder.repo(), folder.path()), (RepoKind::Model, "lab/saes", "layers.16"));
/// let data: Destination = "datasets/lab/kept".parse()?;
/// assert_eq!((data.kind(), data.to_string()), (RepoKind::Dataset, "datasets/lab/kept".to_owned()));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    kind: RepoKind,
    pub(super) name: RepoName,
    path: String,
}

impl Destination {
    /// What the repository is for.
    pub fn kind(&self) -> RepoKind {
        self.kind
    }

    /// The repository, `owner/name`.
    pub fn repo(&self) -> &str {
        &self.name.id
    }

    /// The branch.
    pub fn branch(&self) -> &str {
        &self.name.revision
    }

    /// The folder in the repository; empty for the repository itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The name of a file of the folder in the repository.
    pub(super) fn file(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) }
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("invalid destination {text:?}: expected [datasets/]OWNER/REPO[@BRANCH][/PATH]");
        let name = text.strip_prefix("hub:").unwrap_or(text);
        let (kind, name) = match name.strip_prefix(DATASETS) {
            Some(name) => (RepoKind::Dataset, name),
            None => (RepoKind::Model, name),
        };
        let (owner, rest) = name.split_once('/').ok_or_else(expected)?;
        let (repo, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (repo, branch) = repo.split_once('@').unwrap_or((repo, "main"));
        let name = RepoName::new(&format!("{owner}/{repo}"), branch).ok_or_else(expected)?;
        let path = path.trim_end_matches('/');
        if !path.is_empty() && !is_inside(path) {
            return Err(expected());
        }
        Ok(Self { kind, name, path: path.to_owned() })
    }
}

impl Display for Destination {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let branch = if self.branch() == "main" { String::new() } else { format!("@{}", self.branch()) };
        let path = if self.path.is_empty() { String::new() } else { format!("/{}", self.path) };
        write!(f, "{}{}{branch}{path}", self.kind.prefix(), self.repo())
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
