//! Requests over a socket to a server in this process, on a run of the tiny model.

mod remote;
#[path = "../../../harvest/tests/it/server.rs"]
#[allow(dead_code, reason = "what only the tests of other crates need")]
mod server;
mod serving;

use super::*;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, UInt32Type, UInt64Type};
use sae_core::analysis::labels::{Change, Entry, Labels};
use serde_json::{Value, json};
use serving::{EVIL, FEATURES, SAMPLES, Serving, copy, field, form, original, well_formed};
use std::fs;

#[test]
fn every_page_is_well_formed_and_keeps_data_as_text() {
    let serving = Serving::new();
    let change = Change::Entry {
        before: Entry::empty(0),
        after: Entry { label: EVIL.into(), notes: EVIL.into(), author: EVIL.into(), ..Entry::empty(0) },
    };
    Labels::save(&serving.run(), "base", &[change], &Labels::default()).unwrap();
    let pages = [
        "/features",
        "/features?search=class:cross+density%3E0&sort=-max,feature&per_page=5&page=2&columns=feature,label,ratio",
        "/features?search=%22%3Cscript%3E",
        "/f/0?wait=1",
        "/f/1",
        "/s/3?feature=0&wait=1",
        "/s/0",
        "/filter",
        "/filter?by=random&keep=25%25",
        "/contrast/sides",
        "/run",
    ];
    for path in pages {
        let answer = serving.get(path);
        let text = answer.text();
        assert_eq!(answer.status, 200, "{path}: {text}");
        well_formed(&text);
        assert!(text.contains("<html lang=\"en\">") && text.contains("<main id=\"main\">"), "{path}");
        assert_eq!(text.matches("<script").count(), 1, "{path}: only the program's own script");
        assert_eq!(text.matches("<h1>").count(), 1, "{path}");
        for (inputs, labels) in [("<input type=\"text\"", "<label"), ("<textarea", "<label"), ("<select", "<label")] {
            assert!(text.matches(inputs).count() <= text.matches(labels).count(), "{path}: {inputs}");
        }
        assert!(
            !text.contains(&serving.token) || path.starts_with("/f/"),
            "{path}: the token is in forms that write alone"
        );
    }
    let shown = serving.get("/s/3").text();
    assert!(shown.contains("&lt;/td&gt;&lt;script&gt;"), "{shown}");
    let script = serving.get("/serve.js");
    assert_eq!((script.status, script.header("content-type")), (200, Some("text/javascript")));
}

#[test]
fn what_is_not_there_is_said_with_the_right_status() {
    let serving = Serving::new();
    for (status, path, said) in [
        (404, "/f/128", "there is no feature 128; the index has 128"),
        (404, "/f/x", "there is no feature"),
        (404, "/s/64", "has no sample"),
        (404, "/filter?by=none", "there is no score"),
        (400, "/filter?keep=150%25", "invalid share"),
        (400, "/filter?keep=quotas", "invalid amount"),
        (400, "/features?sort=color", "invalid order"),
        (400, "/features?columns=color", "there is no column"),
        (400, "/features?page=-1", "invalid page"),
        (404, "/contrast/none", "has no contrast none; it has sides"),
        (400, "/contrast/.hidden", "invalid name"),
        (404, "/elsewhere", "nothing at this address"),
        (404, "/image/0/9", "has no image 9"),
        (404, "/image/x/0", "no such image"),
    ] {
        let answer = serving.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.text().contains(said), "{path}: {}", answer.text());
        well_formed(&answer.text());
    }
    let problem = serving.get("/api/features/128");
    assert_eq!(problem.status, 404);
    let problem: Value = serde_json::from_slice(&problem.body).unwrap();
    assert!(problem["error"].as_str().unwrap().contains("no feature 128"));
    assert_eq!(serving.ask("PUT", "/f/1", &serving.bearer(), "").status, 405);
}

#[test]
fn nobody_gets_anything_without_the_token() {
    let serving = Serving::new();
    let token = &serving.token;
    for path in [
        "/",
        "/features",
        "/f/0",
        "/s/0",
        "/image/0/0",
        "/api/features",
        "/api/files",
        "/api/files/run.json",
        "/serve.js",
        "/elsewhere",
    ] {
        for headers in [
            String::new(),
            "\r\nAuthorization: Bearer wrong".into(),
            format!("\r\nCookie: sae_token={token}"),
            format!("\r\nCookie: sae_token_{}={}", serving.port, &token[1..]),
        ] {
            let answer = serving.ask("GET", path, &headers, "");
            assert_eq!(answer.status, 403, "{path} {headers}");
            assert!(!answer.text().contains("base") && answer.text().contains("needs the token"), "{}", answer.text());
            assert_eq!(answer.header("set-cookie"), None);
        }
    }
    let cookie = format!("\r\nCookie: other=1; sae_token_{}={token}", serving.port);
    assert_eq!(serving.ask("GET", "/features", &cookie, "").status, 200);
    // Whoever has the cookie alone reads, but does not write: a page of another port can make a browser send it.
    let edit = form(&[("before", "{\"feature\":1}"), ("label", "x")]);
    assert_eq!(serving.ask("POST", "/f/1", &cookie, &edit).status, 403);
    assert_eq!(serving.ask("POST", "/f/1", "", &edit).status, 403);
    let change = json!({ "before": { "feature": 1 }, "after": { "feature": 1, "label": "x" } }).to_string();
    assert_eq!(serving.ask("POST", "/api/features/1", &cookie, &change).status, 403);
    assert_eq!(serving.ask("POST", "/api/labels", &cookie, "{}").status, 403);
    assert!(!serving.run().labels().exists(), "nothing was written");
    let with_token = form(&[("before", "{\"feature\":1}"), ("label", "x"), ("token", token)]);
    assert_eq!(serving.ask("POST", "/f/1", &cookie, &with_token).status, 303);
    assert_eq!(Labels::read(&serving.run()).unwrap().written("base").unwrap().entry(1).unwrap().label, "x");
}

#[test]
fn a_browser_gets_a_cookie_and_an_address_without_the_secret() {
    let serving = Serving::new();
    let token = &serving.token;
    let address = format!("/f/0?wait=1&token={token}");
    let answer = serving.ask("GET", &address, "\r\nSec-Fetch-Dest: document", "");
    assert_eq!((answer.status, answer.header("location")), (303, Some("/f/0?wait=1")));
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with(&format!("sae_token_{}={token};", serving.port)), "{cookie}");
    assert!(cookie.contains("httponly") && cookie.contains("samesite=lax"));
    // A frame of another site keeps no cookie, so its links carry the token.
    let framed = serving.ask("GET", &address, "\r\nSec-Fetch-Dest: iframe", "");
    assert_eq!(framed.status, 200);
    for link in [format!("/features?token={token}"), format!("/serve.js?token={token}"), "/s/".into()] {
        assert!(framed.text().contains(&link), "{link}");
    }
    let without = framed
        .text()
        .split("href=\"/")
        .skip(1)
        .filter(|link| !link.split('"').next().unwrap().contains(token.as_str()))
        .count();
    assert_eq!(without, 0, "every link of a frame has the token");
    assert_eq!(framed.header("x-frame-options"), None, "frames are allowed");
    assert!(framed.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'")));
    assert_eq!(framed.header("x-content-type-options"), Some("nosniff"));
    let start = serving.ask("GET", &format!("/?token={token}"), "", "");
    assert_eq!((start.status, start.header("location")), (303, Some("/features")));
    let odd = serving.ask("GET", &format!("//example.org/?token={token}"), "\r\nSec-Fetch-Dest: document", "");
    assert_eq!(odd.header("location"), Some("/example.org/"), "no redirect leads to another host");
}

#[test]
fn other_hosts_and_paths_that_lead_out_are_refused() {
    let serving = Serving::new();
    let bearer = serving.bearer();
    for host in ["example.org", "sae.example.org:80", "127.0.0.1.example.org", "10.0.0.7:8000"] {
        let answer = serving.raw(&format!("GET /features HTTP/1.1\r\nHost: {host}{bearer}"), "");
        assert_eq!(answer.status, 403, "{host}: {}", answer.text());
    }
    assert!([400, 403].contains(&serving.raw(&format!("GET /features HTTP/1.1{bearer}"), "").status), "no host");
    for host in ["localhost:9000", "[::1]:80", "127.0.0.1"] {
        let answer = serving.raw(&format!("GET /features HTTP/1.1\r\nHost: {host}{bearer}"), "");
        assert_eq!(answer.status, 200, "a forwarded port: {host}");
    }
    for path in [
        "/../run.json",
        "/f/../features",
        "/contrast/%2e%2e",
        "/contrast/..%2f..%2frun.json",
        "/contrast/%252e%252e/x",
        "/a\\..\\b",
    ] {
        let answer = serving.get(path);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
}

/// Whether a number of a JSON text is this one; the reader of the test rounds the last digit.
fn is(value: &Value, expected: Option<f64>) -> bool {
    match (value.as_f64(), expected) {
        (Some(value), Some(expected)) => (value - expected).abs() <= 1e-15 * expected.abs(),
        (value, expected) => value == expected,
    }
}

#[test]
fn json_says_what_the_files_say() {
    let serving = Serving::new();
    let run = serving.run();
    let path = run.features("base").join("features.parquet");
    let table = sae_core::table::read(&path, &[]).unwrap();
    let listed = serving.json("/api/features?sort=feature&per_page=1000");
    assert_eq!((listed["total"].as_u64(), listed["found"].as_u64()), (Some(FEATURES as u64), Some(FEATURES as u64)));
    let rows = listed["features"].as_array().unwrap();
    assert_eq!(rows.len(), table.num_rows());
    let column = |name: &str| table.column_by_name(name).unwrap();
    for (n, row) in rows.iter().enumerate() {
        let fires = |name: &str| Some(column(name).as_primitive::<UInt64Type>().value(n));
        assert_eq!(row["feature"].as_u64(), Some(u64::from(column("feature").as_primitive::<UInt32Type>().value(n))));
        for name in ["fires", "fires_text", "fires_image"] {
            assert_eq!(row[name].as_u64(), fires(name), "{name} of {n}");
        }
        assert!(is(&row["density"], Some(column("density").as_primitive::<Float64Type>().value(n))), "{row}");
        assert_eq!(row["class"].as_str(), Some(column("class").as_string::<i32>().value(n)));
        let weight = column("weight_paper").as_primitive::<Float64Type>();
        assert!(is(&row["weights"]["paper"], weight.is_valid(n).then(|| weight.value(n))), "{row}");
    }

    let feature = rows.iter().max_by_key(|row| row["fires"].as_u64()).unwrap()["feature"].as_u64().unwrap();
    let view = serving.json(&format!("/api/features/{feature}?wait=1"));
    assert_eq!(view["activations"]["state"], "complete");
    let index = sae_core::analysis::index::Index::open(&run.features("base")).unwrap();
    let expected = index.examples(feature as u32).unwrap();
    let shown: Vec<&Value> =
        view["groups"].as_array().unwrap().iter().flat_map(|g| g["examples"].as_array().unwrap()).collect();
    assert_eq!(shown.len(), expected.len());
    for (shown, (_, example)) in shown.iter().zip(&expected) {
        let numbers = [&shown["sample"], &shown["position"]].map(|n| n.as_u64().unwrap() as u32);
        assert_eq!(
            (numbers, shown["activation"].as_f64().unwrap() as f32),
            ([example.sample, example.position], example.activation)
        );
        assert_eq!(shown["has_activations"], true);
        let tokens = shown["text"].as_array().unwrap().iter();
        let patches = shown["images"].as_array().unwrap().iter().flat_map(|image| image["patches"].as_array().unwrap());
        let hits: Vec<f32> = tokens
            .chain(patches)
            .filter(|piece| piece["hit"] == true)
            .map(|piece| piece["activation"].as_f64().unwrap() as f32)
            .collect();
        assert_eq!(hits, [example.activation], "what is computed again is what the index has");
    }
    let nearest = index.neighbors(feature as u32).unwrap();
    assert_eq!(view["nearest"][0]["feature"].as_u64(), Some(u64::from(nearest[0].feature)));

    let samples = sae_core::store::load_samples(&run).unwrap();
    let scores = sae_core::table::read(&run.scores("base"), &["cosine_paper"]).unwrap();
    let scores = scores.column(0).as_primitive::<Float64Type>();
    for (n, sample) in samples.iter().enumerate().step_by(5) {
        let view = serving.json(&format!("/api/samples/{n}"));
        assert_eq!((view["id"].as_str(), view["text"].as_str()), (Some(&*sample.id), Some(&*sample.text)));
        assert_eq!(view["meta"]["side"], sample.meta["side"]);
        assert!(is(&view["scores"]["cosine_paper"], scores.is_valid(n).then(|| scores.value(n))), "{view}");
    }

    let filter = serving.json("/api/filter?by=cosine_paper&keep=10");
    let scored = scores.iter().flatten().filter(|score| !score.is_nan()).count();
    assert_eq!(
        (filter["scored"].as_u64(), filter["kept"].as_u64()),
        (Some(scored as u64), Some(scored.min(10) as u64))
    );
    let contrast = serving.json("/api/contrasts/sides");
    let written: Value =
        serde_json::from_slice(&fs::read(run.root().join("contrasts/sides/contrast.json")).unwrap()).unwrap();
    assert_eq!((&contrast["contrast"], contrast["total"].as_u64()), (&written, written["tested"].as_u64()));
    let about = serving.json("/api/run");
    assert_eq!((about["samples"].as_u64(), about["sae"].as_str()), (Some(SAMPLES as u64), Some("base")));
    assert_eq!(about["hooks"][0]["hook"], "layers.1");
}

#[test]
fn images_are_those_of_the_data_and_no_others() {
    let serving = Serving::new();
    let image = serving.get("/image/0/0");
    assert_eq!((image.status, image.header("content-type")), (200, Some("image/jpeg")));
    assert!(image.body.windows(3).any(|bytes| bytes == [0xff, 0xd8, 0xff]));
    fs::write(serving.folder.path().join("images/wide.png"), "other").unwrap();
    let gone = serving.get("/image/4/0");
    assert_eq!(gone.status, 404, "{}", gone.text());
    assert!(gone.text().contains("changed since the harvest"), "{}", gone.text());
}

#[test]
fn the_second_of_two_editors_sees_both_texts_and_nothing_is_lost() {
    let serving = Serving::new();
    let seen = field(&serving.get("/f/7").text(), "before");
    let edit = |label: &str, notes: &str, author: &str| {
        let fields =
            [("before", &*seen), ("label", label), ("notes", notes), ("author", author), ("token", &serving.token)];
        serving.ask("POST", "/f/7", "", &form(&fields))
    };
    let first = edit("ring", "on the left", "ann");
    assert_eq!((first.status, first.header("location")), (303, Some("/f/7")));
    let second = edit("circle", "at the top", "bob");
    assert_eq!(second.status, 200, "{}", second.text());
    well_formed(&second.text());
    for text in [
        "role=\"alert\"",
        "Nothing is lost",
        "\u{201c}circle\u{201d} (by bob)",
        "\u{201c}ring\u{201d} (by ann)",
        "on the left",
    ] {
        assert!(second.text().contains(text), "{text}: {}", second.text());
    }
    let written = |label: &str| {
        let labels = Labels::read(&serving.run()).unwrap();
        let entry = labels.written("base").unwrap().entry(7).unwrap().clone();
        assert_eq!(entry.label, label);
        entry
    };
    let entry = written("circle");
    assert_eq!(
        (entry.author.as_str(), entry.notes.as_str()),
        ("bob", "at the top\non the left\nalso labeled \"ring\" by ann")
    );
    // The page that was sent twice adds nothing; then the other label is taken.
    edit("circle", "at the top", "bob");
    assert_eq!(written("circle").notes, entry.notes);
    let theirs: Vec<(&str, String)> =
        ["label", "author", "notes", "before"].map(|name| (name, field(&second.text(), name))).to_vec();
    assert_eq!(theirs[0].1, "ring");
    let mut fields: Vec<(&str, &str)> = theirs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.push(("token", &serving.token));
    assert_eq!(serving.ask("POST", "/f/7", "", &form(&fields)).status, 303);
    assert_eq!(written("ring").author, "ann");

    // The same merge for a program, and for an edit that `sae label` or the app made in between.
    let before = serving.json("/api/features/7")["written"].clone();
    let change =
        Change::Entry { before: Entry::empty(7), after: Entry { notes: "from elsewhere".into(), ..Entry::empty(7) } };
    Labels::save(&serving.run(), "base", &[change], &Labels::default()).unwrap();
    let mut after = before.clone();
    after["label"] = "oval".into();
    after["notes"] = "mine".into();
    let body = json!({ "before": before, "after": after }).to_string();
    let report = serving.ask("POST", "/api/features/7", &serving.bearer(), &body);
    let report: Value = serde_json::from_slice(&report.body).unwrap();
    assert_eq!(report["written"]["label"], "oval");
    let notes = report["written"]["notes"].as_str().unwrap();
    assert!(notes.starts_with("mine\n") && notes.contains("from elsewhere"), "{notes}");
    assert_eq!(report["conflict"]["yours"]["notes"], "mine");
    let listed = serving.json("/api/features?search=label:oval");
    assert_eq!((listed["found"].as_u64(), listed["features"][0]["feature"].as_u64()), (Some(1), Some(7)));
    assert_eq!(serving.ask("POST", "/api/features/7", &serving.bearer(), "{}").status, 400);
    assert_eq!(serving.ask("POST", "/f/7", &serving.bearer(), "label=x").status, 400, "a form without what was seen");
}

#[test]
fn a_run_that_changes_is_seen_as_it_is_then() {
    let serving = Serving::new();
    let run = serving.run();
    let (folder, aside) = (run.features("base"), run.root().join("aside"));
    assert_eq!(serving.get("/features").status, 200);
    // The index disappears, comes back half-written, and then as a whole.
    fs::rename(&folder, &aside).unwrap();
    let gone = serving.get("/features");
    assert_eq!(gone.status, 503, "{}", gone.text());
    assert!(gone.text().contains("`sae index` makes one"));
    fs::create_dir(&folder).unwrap();
    fs::copy(aside.join("features.parquet"), folder.join("features.parquet")).unwrap();
    assert_eq!(serving.get("/f/3").status, 503);
    for name in fs::read_dir(&aside).unwrap().map(|entry| entry.unwrap().file_name()) {
        fs::copy(aside.join(&name), folder.join(&name)).unwrap();
    }
    assert_eq!(serving.get("/f/3").status, 200);
    let path = folder.join("examples.parquet");
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"PAR1", b""] {
        fs::write(&path, damaged).unwrap();
        let answer = serving.get("/f/3");
        assert!(matches!(answer.status, 500 | 503), "{}: {}", answer.status, answer.text());
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(serving.get("/f/3").status, 200);

    fs::write(run.labels(), "{ not json").unwrap();
    assert_eq!(serving.get("/f/3").status, 503);
    let edit = form(&[("before", "{\"feature\":3}"), ("label", "kept"), ("token", &serving.token)]);
    let answer = serving.ask("POST", "/f/3", "", &edit);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("labels.unreadable-1.json"), "what was broken is kept: {}", answer.text());

    let scores = run.scores("base");
    fs::remove_file(&scores).unwrap();
    let without = serving.get("/filter");
    assert_eq!((without.status, without.text().contains("`sae score` makes them")), (503, true));
    fs::write(run.root().join("contrasts/sides/contrast.json"), "[1").unwrap();
    assert_eq!(serving.get("/contrast/sides").status, 503);
    fs::remove_dir_all(run.root().join("contrasts")).unwrap();
    assert_eq!(serving.get("/contrast/sides").status, 404);
    fs::remove_file(run.root().join("run.json")).unwrap();
    assert_eq!(serving.get("/run").status, 503);
    let features = serving.get("/features");
    assert!(matches!(features.status, 200 | 503), "{}", features.status);
}

#[test]
fn activations_that_cannot_be_computed_leave_the_examples() {
    let serving = Serving::new();
    let run = serving.run();
    fs::remove_dir_all(run.activations("layers.1")).unwrap();
    let page = serving.get("/f/0?wait=1");
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.text().contains("Only the marked tokens are shown"), "{}", page.text());
    let view = serving.json("/api/features/0?wait=1");
    assert_eq!(view["activations"]["state"], "unavailable");
    assert_eq!(serving.get("/s/0?feature=0").status, 200);
}

#[test]
fn a_run_without_an_autoencoder_has_its_run_page_and_its_samples() {
    let folder = tempfile::tempdir().unwrap();
    copy(original(), folder.path());
    for name in ["saes", "features", "scores", "contrasts"] {
        fs::remove_dir_all(folder.path().join("run").join(name)).unwrap();
    }
    let serving = Serving::of(folder);
    assert_eq!(
        (serving.get("/run").status, serving.get("/s/0").status, serving.get("/features").status),
        (200, 200, 503)
    );
}

#[test]
fn a_server_listens_on_this_machine_alone_and_names_a_port_that_is_taken() {
    let request = ServeRequest::new(original().join("run"));
    let server = request.bind().unwrap();
    assert!(server.address.ip().is_loopback() && server.url().starts_with("http://127.0.0.1:"));
    let taken = ServeRequest { port: server.address.port(), ..request.clone() }.bind().err().unwrap();
    assert!(matches!(taken, Error::Listen { .. }) && taken.hint().is_some(), "{taken}");
    assert_ne!(server.url(), request.bind().unwrap().url(), "every server has a token of its own");
    let unknown = ServeRequest { sae: Some("other".into()), ..request.clone() }.bind().err().unwrap();
    assert!(matches!(unknown, Error::Unknown { .. }), "{unknown}");
    assert_eq!(request.plan().unwrap().sae.as_deref(), Some("base"));
}
