//! Uploads to a local mock of the hub: where each file goes, what is sent again, who gets the token, and what errors say.

use crate::server::{Answer, Server};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harvest::hub::{Content, Hub, UploadFile, Uploaded};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the mock of the hub has been told.
#[derive(Default)]
struct Told {
    /// Its storage, by hash, or by address while a file comes in parts.
    stored: BTreeMap<String, Vec<u8>>,
    /// Files of the repository.
    files: BTreeMap<String, Vec<u8>>,
    commits: Vec<String>,
    verified: Vec<String>,
    /// Requests to the storage that had a token.
    leaked: usize,
    /// How many requests to the storage fail before one succeeds.
    busy: usize,
}

const PART: usize = 1 << 20;

/// The hub for `lab/saes`: files that end with `.bin` are large, and those above [`PART`] are sent in parts.
fn hub(told: &Arc<Mutex<Told>>) -> Server {
    let told = Arc::clone(told);
    Server::with_body(move |path, headers, body| {
        let mut told = told.lock().unwrap();
        let has_token = headers.iter().any(|header| header == "authorization: bearer secret");
        let ok = |value: Value| Answer::ok(value.to_string().into_bytes());
        if let Some(address) = path.strip_prefix("/storage/") {
            told.leaked += usize::from(has_token);
            if told.busy > 0 {
                told.busy -= 1;
                return Answer::new(503);
            }
            told.stored.insert(address.into(), body.to_vec());
            return Answer::new(200).header("etag", &format!("tag-{address}"));
        }
        let posted: Value = serde_json::from_slice(body).unwrap_or_default();
        if !has_token {
            return Answer::new(401);
        }
        match path {
            "/api/repos/create" => ok(json!({"url": "x"})).status(if told.commits.is_empty() { 200 } else { 409 }),
            "/api/models/lab/saes/preupload/main" => {
                let mode = |file: &Value| {
                    let path = file["path"].as_str().unwrap();
                    let mode = if path.ends_with(".bin") { "lfs" } else { "regular" };
                    json!({"path": path, "uploadMode": mode, "shouldIgnore": path.ends_with(".tmp")})
                };
                ok(json!({"files": posted["files"].as_array().unwrap().iter().map(mode).collect::<Vec<_>>()}))
            }
            "/lab/saes.git/info/lfs/objects/batch" => {
                let host = headers.iter().find_map(|header| header.strip_prefix("host: ")).unwrap();
                let object = |object: &Value| {
                    let (oid, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap() as usize);
                    if told.stored.contains_key(oid) {
                        return json!({"oid": oid, "size": size});
                    }
                    let verify = json!({"href": format!("http://{host}/verify")});
                    let address = |name: &str| format!("http://{host}/storage/{name}");
                    if size <= PART {
                        let upload = json!({"href": address(oid), "header": {"x-kept": "yes"}});
                        return json!({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}});
                    }
                    let mut header = json!({"chunk_size": PART.to_string()});
                    for n in 0..size.div_ceil(PART) {
                        header[format!("{:05}", n + 1)] = json!(address(&format!("{oid}-{n}")));
                    }
                    let upload = json!({"href": format!("http://{host}/complete"), "header": header});
                    json!({"oid": oid, "size": size, "actions": {"upload": upload}})
                };
                ok(json!({"objects": posted["objects"].as_array().unwrap().iter().map(object).collect::<Vec<_>>()}))
            }
            "/complete" => {
                let oid = posted["oid"].as_str().unwrap().to_owned();
                let parts = posted["parts"].as_array().unwrap();
                let name = |(n, part): (usize, &Value)| {
                    assert_eq!(
                        (part["partNumber"].as_u64(), &part["etag"]),
                        (Some(n as u64 + 1), &json!(format!("tag-{oid}-{n}")))
                    );
                    format!("{oid}-{n}")
                };
                let names: Vec<_> = parts.iter().enumerate().map(name).collect();
                let whole: Vec<u8> = names.iter().flat_map(|name| told.stored[name].clone()).collect();
                told.stored.insert(oid, whole);
                ok(json!({}))
            }
            "/verify" => {
                told.verified.push(posted["oid"].as_str().unwrap().into());
                ok(json!({}))
            }
            "/api/models/lab/saes/commit/main" => {
                for line in std::str::from_utf8(body).unwrap().lines() {
                    let line: Value = serde_json::from_str(line).unwrap();
                    let (value, path) = (&line["value"], line["value"]["path"].as_str().unwrap_or_default().to_owned());
                    match line["key"].as_str().unwrap() {
                        "header" => told.commits.push(value["summary"].as_str().unwrap().into()),
                        "file" => {
                            let content = STANDARD.decode(value["content"].as_str().unwrap()).unwrap();
                            told.files.insert(path, content);
                        }
                        _ => {
                            let content = told.stored[value["oid"].as_str().unwrap()].clone();
                            assert_eq!(value["size"], content.len());
                            told.files.insert(path, content);
                        }
                    }
                }
                ok(json!({"commitUrl": "http://hub/commit/7", "commitOid": "7".repeat(40)}))
            }
            _ => Answer::new(404),
        }
    })
}

fn files(dir: &Path) -> Vec<UploadFile> {
    let large: Vec<u8> = (0..(2 * PART as u32 + 17)).map(|n| (n % 253) as u8).collect();
    std::fs::write(dir.join("large.bin"), large).unwrap();
    let file = |name: &str, content| UploadFile { name: name.into(), content };
    vec![
        file("weights/large.bin", Content::File(dir.join("large.bin"))),
        file("small.bin", Content::Bytes(vec![7; 900])),
        file("cfg.json", Content::Bytes(b"{}".to_vec())),
        file("left.tmp", Content::Bytes(b"x".to_vec())),
        file("README.md", Content::Bytes(b"# card".to_vec())),
    ]
}

fn upload(server: &Server, cache: &Path, files: &[UploadFile]) -> harvest::Result<Uploaded> {
    let hub = Hub::new(&server.address, cache, Some("secret".into()), false);
    hub.upload(files, &"lab/saes/layers.1".parse().unwrap(), true, "Upload it", &mut |_| Ok(()))
}

#[test]
fn large_files_go_to_the_storage_whole_or_in_parts_and_the_others_into_the_commit() {
    let (dir, told) = (tempfile::tempdir().unwrap(), Arc::default());
    let (server, files) = (hub(&told), files(dir.path()));
    let (mut last, mut total) = (0, 0);
    let token = Some("secret".into());
    let uploaded = Hub::new(&server.address, dir.path(), token, false)
        .upload(&files, &"lab/saes/layers.1".parse().unwrap(), true, "Upload it", &mut |progress| {
            assert!(progress.bytes >= last, "{} after {last}", progress.bytes);
            (last, total) = (progress.bytes, progress.total);
            Ok(())
        })
        .unwrap();
    let told = told.lock().unwrap();
    let names: Vec<_> = told.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["layers.1/README.md", "layers.1/cfg.json", "layers.1/small.bin", "layers.1/weights/large.bin"]);
    for file in files.iter().filter(|file| file.name != "left.tmp") {
        let content = match &file.content {
            Content::File(path) => std::fs::read(path).unwrap(),
            Content::Bytes(bytes) => bytes.clone(),
        };
        assert!(told.files[&format!("layers.1/{}", file.name)] == content, "{}", file.name);
    }
    assert_eq!((last, total), (2 * PART as u64 + 17 + 900 + 2 + 1 + 6, last), "progress ends at the end");
    assert_eq!(told.verified, [sha256(&[7; 900])]);
    assert_eq!((told.leaked, &told.commits[..]), (0, &["Upload it".to_owned()][..]), "the storage gets no token");
    let url = "http://hub/commit/7".to_owned();
    let ignored = vec!["layers.1/left.tmp".to_owned()];
    let bytes = 2 * PART as u64 + 17 + 900 + 2 + 6;
    assert_eq!(uploaded, Uploaded { url, commit: "7".repeat(40), files: 4, bytes, already_there: 0, ignored });
}

#[test]
fn what_the_storage_has_is_not_sent_again_and_a_busy_storage_is_asked_again() {
    let (dir, told) = (tempfile::tempdir().unwrap(), Arc::<Mutex<Told>>::default());
    let (server, files) = (hub(&told), files(dir.path()));
    told.lock().unwrap().busy = 2;
    assert_eq!(upload(&server, dir.path(), &files).unwrap().already_there, 0);
    let before = server.requests().iter().filter(|request| request.contains("/storage/")).count();
    assert_eq!(before, 4 + 2, "three parts and a whole file, two of them twice");
    assert_eq!(upload(&server, dir.path(), &files).unwrap().already_there, 2);
    assert!(!server.requests().iter().any(|request| request.contains("/storage/")));

    let other = [UploadFile { name: "other.bin".into(), content: Content::Bytes(vec![3; 50]) }];
    told.lock().unwrap().busy = 3;
    let error = upload(&server, dir.path(), &other).unwrap_err();
    assert_eq!(error.to_string(), "the upload was interrupted (status 503 Service Unavailable): lab/saes@main");
    assert!(error.hint().unwrap().to_string().contains("run it again"));
    assert!(!told.lock().unwrap().files.contains_key("layers.1/other.bin"), "no commit names what was not sent");
}

#[test]
fn an_upload_without_a_token_without_rights_or_stopped_says_so_and_commits_nothing() {
    let (dir, told) = (tempfile::tempdir().unwrap(), Arc::<Mutex<Told>>::default());
    let (server, files) = (hub(&told), files(dir.path()));
    let with = |token: Option<&str>, offline| {
        Hub::new(&server.address, dir.path(), token.map(str::to_owned), offline)
            .upload(&files, &"lab/saes".parse().unwrap(), false, "m", &mut |_| Ok(()))
            .unwrap_err()
    };
    assert_eq!(with(None, false).to_string(), "an upload needs a token: lab/saes@main");
    assert!(with(Some("secret"), true).to_string().starts_with("HF_HUB_OFFLINE is set"));
    let denied = with(Some("another"), false);
    assert_eq!(denied.to_string(), "the hub refuses the upload (status 401 Unauthorized): lab/saes@main");
    assert!(denied.hint().unwrap().to_string().contains("a token that may write to lab/saes"));
    let hub = Hub::new(&server.address, dir.path(), Some("secret".into()), false);
    let stop = hub.upload(&files, &"lab/saes".parse().unwrap(), false, "m", &mut |progress| {
        if progress.bytes > 1000 { Err(sae_core::Error::Cancelled.into()) } else { Ok(()) }
    });
    let cancelled = matches!(stop, Err(harvest::Error::Core(sae_core::Error::Cancelled)));
    assert!(cancelled, "{stop:?}");
    assert!(told.lock().unwrap().files.is_empty());
}
