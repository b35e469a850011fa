//! Addresses of objects: `s3://BUCKET/KEY`, `gs://BUCKET/KEY` and `az://CONTAINER/KEY`. Sends no request.

use sae_core::store::run::is_object_address;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::str::FromStr;

/// Which service stores an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    /// Amazon S3, and whatever speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
        }
    }
}

/// The address of an object, or of a folder of objects: a key and everything whose key begins with it and a `/`.
///
/// ```
/// use harvest::objects::ObjectUrl;
///
/// let rows: ObjectUrl = "s3://lab/data/train.jsonl".parse()?;
/// assert_eq!((rows.bucket(), rows.key(), rows.is_folder()), ("lab", "data/train.jsonl", false));
/// let folder: ObjectUrl = "gs://lab/data/".parse()?;
/// assert_eq!(folder.join("a.parquet").to_string(), "gs://lab/data/a.parquet");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectUrl {
    pub(super) scheme: Scheme,
    bucket: String,
    key: String,
    folder: bool,
}

impl ObjectUrl {
    /// The address that a path is; nothing if it is a path on this machine.
    ///
    /// # Errors
    /// The address is invalid.
    pub fn from_path(path: &Path) -> Result<Option<Self>, String> {
        let text = path.to_str().filter(|text| is_object_address(text));
        text.map(str::parse).transpose()
    }

    pub(super) fn new(scheme: Scheme, bucket: &str, key: &str) -> Self {
        Self { scheme, bucket: bucket.to_owned(), key: key.to_owned(), folder: false }
    }

    /// The bucket, or the container of Azure.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key, without a `/` at its end; empty for the whole bucket.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether the address ends in `/`, or is that of the whole bucket.
    pub fn is_folder(&self) -> bool {
        self.folder || self.key.is_empty()
    }

    /// The address of something in this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let key = if self.key.is_empty() { name.to_owned() } else { format!("{}/{name}", self.key) };
        Self { key, folder: false, ..self.clone() }
    }

    /// The folder of this object.
    pub(super) fn parent(&self) -> Self {
        let key = self.key.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        Self { key, folder: true, ..self.clone() }
    }
}

/// Whether a key can be a path below a folder of this machine.
pub(super) fn is_path(key: &str) -> bool {
    let is_name =
        |name: &str| !["", ".", ".."].contains(&name) && !name.contains(|c: char| c == '\\' || c.is_ascii_control());
    key.split('/').all(is_name)
}

impl FromStr for ObjectUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "expected s3://BUCKET/KEY, gs://BUCKET/KEY or az://CONTAINER/KEY";
        let scheme = [Scheme::S3, Scheme::Gs, Scheme::Az];
        let scheme = scheme.into_iter().find_map(|s| Some((s, text.strip_prefix(s.name())?.strip_prefix("://")?)));
        let (scheme, rest) = scheme.ok_or_else(|| format!("invalid address: {FORMS}"))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        // The address is not repeated: what stands before the bucket may be a password.
        if bucket.is_empty() || !bucket.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            let why =
                "the name of a bucket has letters, digits, '.', '_' and '-'; credentials are read from the environment";
            return Err(format!("invalid address of an object: {FORMS} ({why})"));
        }
        let (key, folder) = match key.strip_suffix('/') {
            Some(key) => (key, true),
            None => (key, key.is_empty()),
        };
        if !key.is_empty() && !is_path(key) {
            return Err(format!(
                "invalid address {text:?}: expected a key without empty names, '.', '..', '\\' and control characters"
            ));
        }
        Ok(Self { scheme, bucket: bucket.to_owned(), key: key.to_owned(), folder })
    }
}

impl Display for ObjectUrl {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let end = if self.folder && !self.key.is_empty() { "/" } else { "" };
        write!(f, "{}://{}/{}{end}", self.scheme.name(), self.bucket, self.key)
    }
}

impl Serialize for ObjectUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_address_is_rejected_without_repeating_a_password() {
        for bad in ["s3://", "s3:///key", "s3://b/a//c", "s3://b/../c", "s3://b/a/./c", "http://b/c"] {
            assert!(bad.parse::<ObjectUrl>().is_err(), "{bad}");
        }
        let secret = "s3://AKIA:very-secret@bucket/key".parse::<ObjectUrl>().unwrap_err();
        assert!(!secret.contains("very-secret") && secret.contains("environment"), "{secret}");
    }

    #[test]
    fn every_service_has_addresses_that_no_command_takes_for_a_path() {
        for scheme in [Scheme::S3, Scheme::Gs, Scheme::Az] {
            let url = ObjectUrl::new(scheme, "lab", "run").to_string();
            assert!(is_object_address(&url) && url.parse::<ObjectUrl>().is_ok(), "{url}");
        }
    }

    #[test]
    fn a_path_of_this_machine_is_no_address() {
        assert_eq!(ObjectUrl::from_path("data/s3/train.jsonl".as_ref()), Ok(None));
        let url = ObjectUrl::from_path("az://box/a b.jsonl".as_ref()).unwrap().unwrap();
        assert_eq!((url.to_string().as_str(), url.parent().to_string().as_str()), ("az://box/a b.jsonl", "az://box/"));
    }
}
