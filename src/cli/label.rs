//! `sae label`: asks an OpenAI-compatible endpoint what features fire on, and tests each label on unseen positions. Without `--yes` it
//! only prints the cost.

use super::arguments::{FeatureArgs, SaeArgs};
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted, table};
use anyhow::Result;
use clap::Args;
use sae_workbench::label::{KEY_VARIABLE, LabelEstimate, LabeledFeature, Price};
use sae_workbench::{LabelReport, LabelRequest};
use std::str::FromStr;

/// `sae label`
#[derive(Args, Debug)]
#[command(after_help = "\
The model is asked two questions about each feature: What do these positions have in common? And which of some further \
positions does the label fit? The score of a label is the share of them that is predicted correctly; chance is 0.5. Texts and \
images of the run are sent to the endpoint. Existing labels are kept, whoever wrote them, so the same command continues after an \
interruption.

Examples:
  sae label --run run --url http://localhost:8000/v1 --model qwen2.5-vl --class cross --dry-run
  sae label --run run --url https://api.openai.com/v1 --model gpt-4o --features 12,705 --price 2.5,10 --yes")]
pub struct LabelArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// Base address of the endpoint; /chat/completions is added
    #[arg(long)]
    pub url: String,
    /// Model to ask; it becomes the author of the labels
    #[arg(long)]
    pub model: String,
    /// Environment variable with the key, if the endpoint wants one
    #[arg(long, default_value = KEY_VARIABLE, value_name = "NAME")]
    pub key_env: String,
    #[command(flatten)]
    pub chosen: FeatureArgs,
    /// Most questions per minute
    #[arg(long, default_value_t = 60.0, value_parser = above_zero, value_name = "N")]
    pub per_minute: f64,
    /// Price of a million tokens of questions and of answers, for the estimate: 2.5,10
    #[arg(long, value_name = "IN,OUT")]
    pub price: Option<Prices>,
    /// Send the requests (default: print the cost estimate and exit)
    #[arg(long)]
    pub yes: bool,
}

/// Prices of a million tokens, as they are written on the command line: `2.5,10`.
#[derive(Clone, Copy, Debug)]
pub struct Prices(Price);

impl FromStr for Prices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let price = |part: &str| part.trim().parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
        let prices = text.split_once(',').and_then(|(question, answer)| Some((price(question)?, price(answer)?)));
        let (question, answer) =
            prices.ok_or_else(|| format!("invalid prices {text:?}: expected two numbers, such as 2.5,10"))?;
        Ok(Self(Price { question, answer }))
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("invalid number {text:?}"))?;
    if value > 0.0 && value.is_finite() { Ok(value) } else { Err(format!("{text} is not above 0")) }
}

impl LabelArgs {
    fn request(&self) -> LabelRequest {
        LabelRequest {
            sae: self.sae.choice(),
            url: self.url.clone(),
            model: self.model.clone(),
            key: std::env::var(&self.key_env).ok().filter(|key| !key.is_empty()),
            features: self.chosen.choice(),
            per_minute: self.per_minute,
            price: self.price.map(|prices| prices.0),
        }
    }
}

/// Runs the command.
pub fn run(args: &LabelArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = args.request();
    if invocation.dry_run {
        return Outcome::plan(request.plan()?);
    }
    let labeling = request.prepare()?;
    let estimate = labeling.estimate();
    let cost = cost(estimate, args);
    if !args.yes && !estimate.to_label.is_empty() {
        return Outcome::new(estimate, format!("{cost}\nnothing was sent; --yes sends the questions"));
    }
    eprintln!("{cost}");
    let report = labeling.run(invocation.control)?;
    let text = describe(&report, args);
    Outcome::new(report, text)
}

fn cost(estimate: &LabelEstimate, args: &LabelArgs) -> String {
    let about = &estimate.about;
    let prices = args.price.map(|prices| format!("{} and {} a million", prices.0.question, prices.0.answer));
    let money = estimate.price.zip(prices).map_or(String::new(), |(price, at)| format!(", about {price:.2} at {at}"));
    format!(
        "{} to label ({} have a label): {} with {} to {} at {}, about {} tokens and {} of answers{money}; {:.0} minutes at least",
        counted(estimate.to_label.len() as u64, "feature"),
        count(estimate.labeled_already as u64),
        counted(about.calls, "question"),
        counted(about.pictures, "picture"),
        estimate.model,
        estimate.url,
        count(about.tokens_in),
        count(about.tokens_out),
        estimate.minutes,
    )
}

fn describe(report: &LabelReport, args: &LabelArgs) -> String {
    let (made, existing) = (count(report.labeled as u64), count(report.labeled_already as u64));
    let mut text = format!("{made} labels by {}; {existing} features already had one\n", args.model);
    if let (Some(accuracy), Some(f1)) = (report.accuracy, report.f1) {
        let n = report.labels.iter().filter(|label| label.verdict.is_some()).count();
        text += &format!(
            "held-out positions predicted correctly: {:.0} % (chance 50 %), F1 {f1:.2}; means of {n} labels\n",
            100.0 * accuracy
        );
    }
    let row = |l: &LabeledFeature| {
        let share = l.verdict.map_or("-".into(), |verdict| format!("{:.0} %", 100.0 * verdict.accuracy));
        let said = l.label.clone().or_else(|| l.without.clone()).unwrap_or_default();
        vec![format!("{:>7}  {said}", l.feature), share]
    };
    text += &table(&report.labels.iter().map(row).collect::<Vec<_>>());
    text += &format!("{} tokens of questions, {} of answers", count(report.tokens_in), count(report.tokens_out));
    text + &report.price.map_or(String::new(), |price| format!(", {price:.2}"))
}
