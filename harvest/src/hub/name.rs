//! Names of checkpoints on the hub: `org/name` or `org/name@revision`. Sends no request.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

/// A repository on the hub, at a branch, tag or commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RepoName {
    /// `org/name`.
    pub id: String,
    /// The branch, tag or commit.
    pub revision: String,
}

impl RepoName {
    /// The repository that `model` names. Nothing if `model` is an existing folder, or cannot be the name of a repository.
    pub fn parse(model: &str) -> Option<Self> {
        if Path::new(model).exists() {
            return None;
        }
        let (id, revision) = model.split_once('@').unwrap_or((model, "main"));
        Self::new(id, revision)
    }

    /// The repository `org/name` at a branch, tag or commit. Nothing if these cannot be names.
    pub fn new(id: &str, revision: &str) -> Option<Self> {
        let (owner, name) = id.split_once('/')?;
        let is_plain = |part: &str| {
            let is_allowed = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            is_allowed && !part.is_empty() && !part.starts_with(['.', '-']) && !part.contains("..")
        };
        let is_valid = is_plain(owner) && is_plain(name) && revision.split('/').all(is_plain);
        is_valid.then(|| Self { id: id.to_owned(), revision: revision.to_owned() })
    }
}

impl Display for RepoName {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.revision)
    }
}

/// The name of the model in a folder: `org/name` for a folder of the hub's cache, whose own name is a commit; otherwise the
/// folder's name.
pub fn model_name(folder: &Path) -> String {
    let last = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let snapshots = folder.parent().filter(|parent| parent.ends_with("snapshots"));
    let repository = snapshots.and_then(Path::parent).map(last);
    let name = repository.and_then(|name| Some(name.strip_prefix("models--")?.replace("--", "/")));
    name.unwrap_or_else(|| last(folder))
}
