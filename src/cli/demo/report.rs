//! The report of the demo, in words.

use crate::cli::eval;
use crate::cli::terminal::{columns, count, counted, table};
use filters::words::{Agreement, SHUFFLES};
use sae_core::path_text;
use sae_workbench::DemoReport;
use sae_workbench::demo::{Caption, Captions, Judged, LAYER, Recipe, Recognized, SCORES};

/// The report for a terminal.
pub fn describe(report: &DemoReport) -> String {
    [head, words, scores, kept, examples, onward, end].map(|part| part(report)).join("\n")
}

fn head(report: &DemoReport) -> String {
    let Recipe { architecture, features, k, steps, batch } = &report.recipe;
    format!(
        "The bundled LLaVA has read {} captioned emoji; captured after block {LAYER}: {}.\n\
         {} of the captions were swapped on purpose. Nothing but the comparison below knows which.\n\n\
         {}, {} of {} features active at a position, {} steps of {}\n{}",
        count(report.samples),
        counted(report.tokens, "position"),
        percent(report.captions.swapped, report.captions.all),
        counted(report.seeds, &format!("{architecture} autoencoder")),
        k,
        count(*features as u64),
        count(*steps),
        counted(*batch as u64, "position"),
        eval::describe(&report.evaluation)
    )
}

fn words(report: &DemoReport) -> String {
    let Recognized { words, recognizable, shown, .. } = &report.recognized;
    let head = ["word", "captions", "patches", "correlation", "chance", "strongest"];
    let mut rows = vec![cells(head)];
    rows[0].extend(cells(["tokens", "share", "chance", "strongest"]));
    let agreement = |strongest: Agreement| format!("{} of {}", strongest.with_word, strongest.of);
    rows.extend(shown.iter().map(|word| {
        vec![
            word.word.clone(),
            count(word.samples),
            format!("f/{}", word.image.feature),
            format!("{:.2}", word.image.correlation),
            format!("{:.2}", word.image.chance),
            agreement(word.image.strongest),
            format!("f/{}", word.text.feature),
            format!("{:.0} %", 100.0 * word.text.share),
            format!("{:.1} %", 100.0 * word.text.base),
            agreement(word.text.strongest),
        ]
    }));
    format!(
        "Features in patches and in words\n\
         Of {}, {} have a feature that fires on the patches of their pictures and one\n\
         that fires on their tokens:\n{}  \
         correlation: of the patch feature with captions that have the word; chance: the largest of any feature in\n  \
         {SHUFFLES} shuffles of the captions. share: of the token feature's activation that falls on the word; chance: the\n  \
         word's share of the positions. strongest: how many of the strongest patches and tokens have to do with the word.\n",
        counted(*words as u64, "common word"),
        count(*recognizable as u64),
        table(&rows),
    )
}

fn scores(report: &DemoReport) -> String {
    let several = report.seeds > 1;
    let mut rows = vec![cells(["score", "AUC", "95 % interval", "against chance"])];
    rows[0].extend(several.then(|| "by seed".to_owned()));
    rows.extend(report.captions.scores.iter().map(|judged| {
        let [low, high] = judged.interval;
        let by_seed: Vec<_> = judged.by_seed.iter().map(|auc| format!("{auc:.3}")).collect();
        let mut row = vec![
            judged.score.clone(),
            format!("{:.3}", judged.auc),
            format!("{low:.3} to {high:.3}"),
            against_chance(judged).into(),
        ];
        row.extend(several.then(|| by_seed.join(" ")));
        row
    }));
    format!("Which score tells right captions from swapped ones (AUC; 0.5 is chance)\n{}", table(&rows))
}

fn kept(report: &DemoReport) -> String {
    let Captions { all, swapped, estimate, kept, .. } = &report.captions;
    let mut text = format!(
        "Filtered by {} with --keep auto, which needs no labels: it estimates that {:.0} % of the captions are wrong\n\
         (really {}) and keeps {:.0} %.\n",
        SCORES[0],
        100.0 * estimate.mismatched,
        percent(*swapped, *all),
        100.0 * estimate.share_kept
    );
    let mut rows = vec![cells(["keeping as many by", "kept", "wrong", "dropped", "wrong"])];
    rows.extend(kept.iter().map(|by| {
        let (dropped, swapped_dropped) = (all - by.samples, swapped - by.swapped);
        vec![
            by.score.clone(),
            count(by.samples as u64),
            percent(by.swapped, by.samples),
            count(dropped as u64),
            percent(swapped_dropped, dropped),
        ]
    }));
    text += &table(&rows);
    if let Some(filtered) = &report.filtered {
        let reasons = filtered.reasons.iter().filter(|(_, n)| **n > 0);
        let reasons: Vec<_> = reasons.map(|(reason, n)| format!("{} {reason}", count(*n))).collect();
        let lowest =
            filtered.threshold.map_or(String::new(), |lowest| format!(" (lowest score kept: {lowest:.2} nats)"));
        text += &format!(
            "  {} and {}: {}{lowest}; decisions.csv has every caption's reason.\n",
            report.run.join("kept").display(),
            report.run.join("dropped").display(),
            reasons.join(", ")
        );
    }
    text
}

fn examples(report: &DemoReport) -> String {
    let [looked_at, wrong] = report.captions.lowest;
    let list = |captions: &[Caption]| {
        let mut rows = vec![cells(["sample", "nats", "caption", "the picture was called"])];
        rows.extend(captions.iter().map(|caption| {
            let own = if caption.swapped { caption.own.as_str() } else { "the same: not swapped" };
            vec![format!("s/{}", caption.sample), format!("{:+.1}", caption.score), caption.caption.clone(), own.into()]
        }));
        columns(&rows)
    };
    let mut text = format!(
        "Of the {looked_at} captions with the lowest {}, {wrong} are swapped. The lowest:\n{}",
        SCORES[0],
        list(&report.captions.found)
    );
    if !report.captions.missed.is_empty() {
        text += &format!("Swapped, and kept all the same. The highest:\n{}", list(&report.captions.missed));
    }
    text
}

fn onward(report: &DemoReport) -> String {
    let link = |place: &str| format!("sae://{}/{place}", path_text::percent_encode(&report.run.to_string_lossy()));
    let run = report.run.display();
    let sae = if report.seeds > 1 { format!(" --sae {}", report.sae) } else { String::new() };
    let mut rows = vec![vec![format!("sae-gui {run}"), "the app, on all of it".into()]];
    if let Some(word) = report.recognized.shown.first() {
        let link = |feature: u32| format!("sae-gui {}", link(&format!("f/{feature}")));
        rows.push(vec![link(word.image.feature), format!("the patches of \"{}\"", word.word)]);
        rows.push(vec![link(word.text.feature), "and its tokens".into()]);
    }
    if let Some(caption) = report.captions.found.first() {
        let sample = caption.sample;
        rows.push(vec![
            format!("sae-gui {}", link(&format!("s/{sample}"))),
            format!("the caption \"{}\"", caption.caption),
        ]);
        rows.push(vec![
            format!("sae score --run {run}{sae} --explain {sample}"),
            "which features lower its score".into(),
        ]);
    }
    rows.push(vec![format!("sae-gui '{}'", link("?page=filter")), "the threshold, to drag".into()]);
    rows.push(vec![
        format!("sae filter --run {run}{sae} --by {} --keep 50% --out half", SCORES[0]),
        "another selection".into(),
    ]);
    // A program that was built in the repository is rarely on the path.
    let is_built = std::env::current_exe().is_ok_and(|program| program.ends_with("target/release/sae"));
    let names =
        if is_built { " (sae is target/release/sae; sae-gui is cargo run --release -p sae-gui --)" } else { "" };
    format!("Look further{names}\n{}", columns(&rows))
}

fn end(report: &DemoReport) -> String {
    let pictures: Vec<_> = report.pictures.iter().map(|path| path.display().to_string()).collect();
    let seconds: Vec<_> = report.seconds.iter().map(|(stage, s)| format!("{stage} {s:.0} s")).collect();
    let total: f64 = report.seconds.iter().map(|(_, s)| s).sum();
    format!("Pictures: {}\nTime: {} (together {total:.0} s)\n", pictures.join(", "), seconds.join(", "))
}

fn cells<const N: usize>(row: [&str; N]) -> Vec<String> {
    row.map(String::from).to_vec()
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

fn against_chance(judged: &Judged) -> &'static str {
    match judged.interval {
        [low, _] if low > 0.5 => "better",
        [_, high] if high < 0.5 => "worse",
        _ => "no difference",
    }
}
