//! How well models predict the text of data sets, in bits for each byte of text, so that models with different tokenizers can be
//! compared. Needs neither a run nor an autoencoder.

use crate::control::{Control, Stage};
use crate::{Error, Result, model};
use harvest::{Plan, Preview, SpliceRunner};
use sae_core::analysis::eval::{difference_of_ratios, ratio_of_sums};
use sae_core::file;
use sae_core::store::Hook;
use sae_core::store::run::{self, SCHEMA_VERSION};
use sae_core::store::sample::Token;
use serde::Serialize;
use std::f64::consts::LN_2;
use std::path::{Path, PathBuf};

/// Which models read which data sets.
///
/// ```
/// use harvest::Plan;
/// use sae_workbench::{Control, EvalModelsRequest};
///
/// let (model, data) = ("assets/demo-mllm", "assets/demo-data/data.jsonl");
/// let reading = Plan { limit: Some(20), ..Plan::new(model, data, Vec::new()) };
/// let report = EvalModelsRequest::new(vec![model.into()], vec![data.into()], reading).run(&mut Control::default())?;
///
/// let [bits, lo, hi] = report.results[0].bits_per_byte;
/// assert!(lo < bits && bits < hi && bits < 8.0);
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct EvalModelsRequest {
    /// Checkpoints: folders, or names on the Hugging Face hub. The others are compared with the first.
    pub models: Vec<PathBuf>,
    /// Data sets.
    pub data: Vec<PathBuf>,
    /// How the models read them. Model, data and layers of this plan are replaced.
    pub reading: Plan,
    /// A file to which the report is written as JSON.
    pub out: Option<PathBuf>,
}

/// What an evaluation of models would do.
#[derive(Clone, Debug, Serialize)]
pub struct EvalModelsPlan {
    /// `eval`.
    pub command: &'static str,
    /// Each data set with each of the models.
    pub readings: Vec<Preview>,
}

/// How well models predict.
#[derive(Clone, Debug, Serialize)]
pub struct EvalModelsReport {
    /// The version of the file.
    pub schema_version: u32,
    /// When, in UTC.
    pub created: String,
    /// Largest number of rows that were read of each data set.
    pub limit: Option<u64>,
    /// Each data set with each of the models, in this order.
    pub results: Vec<TextLikelihood>,
}

/// How well a model predicts the text of a data set.
#[derive(Clone, Debug, Serialize)]
pub struct TextLikelihood {
    /// The checkpoint.
    pub model: String,
    /// The data set.
    pub data: String,
    /// Samples with a token that is predicted.
    pub samples: u64,
    /// Predicted tokens: text tokens with content that follow text tokens. Those of images are not among them.
    pub tokens: u64,
    /// UTF-8 bytes of text that they stand for.
    pub bytes: u64,
    /// Rows that became no sample.
    pub skipped: u64,
    /// Bits of all predicted tokens over their bytes, with the 95 % interval over samples.
    pub bits_per_byte: [f64; 3],
    /// Nats of all predicted tokens over their number, with the 95 % interval over samples.
    pub nats_per_token: [f64; 3],
    /// By how much `bits_per_byte` exceeds that of the first model on the same samples, with its interval; none for the first model,
    /// and for a model that could not read the same samples.
    pub difference: Option<[f64; 3]>,
}

/// The sums of a sample.
struct SampleSums {
    id: String,
    nats: f64,
    tokens: f64,
    bytes: f64,
}

impl SampleSums {
    fn bits_by_bytes(&self) -> [f64; 2] {
        [self.nats / LN_2, self.bytes]
    }
}

impl EvalModelsRequest {
    /// Models and data sets, and how they are read.
    pub fn new(models: Vec<PathBuf>, data: Vec<PathBuf>, reading: Plan) -> Self {
        Self { models, data, reading, out: None }
    }

    /// What [`EvalModelsRequest::run`] would do.
    ///
    /// # Errors
    /// A model or data set that cannot be read; a model that has not been downloaded.
    pub fn plan(&self) -> Result<EvalModelsPlan> {
        let plans = self.plans(&mut |plan| model::resolve(plan, None))?;
        let readings = plans.iter().map(Plan::preview).collect::<Result<_, _>>()?;
        Ok(EvalModelsPlan { command: "eval", readings })
    }

    /// Lets each model read each data set.
    ///
    /// # Errors
    /// As [`EvalModelsRequest::plan`]; no text to predict in a data set; a file that cannot be written; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<EvalModelsReport> {
        let plans = self.plans(&mut |plan| model::resolve(plan, Some(control)))?;
        let previews = plans.iter().map(Plan::preview).collect::<Result<Vec<_>, _>>()?;
        let (mut results, mut first): (Vec<TextLikelihood>, Vec<SampleSums>) = (Vec::new(), Vec::new());
        for (n, (plan, preview)) in plans.iter().zip(&previews).enumerate() {
            let (samples, skipped) = read(plan, preview.rows, control)?;
            let is_first = n % self.models.len() == 0;
            let difference = if is_first { None } else { difference(&samples, &first) };
            results.push(TextLikelihood::new(plan, &samples, skipped, difference)?);
            if is_first {
                first = samples;
            }
        }
        let (schema_version, created) = (SCHEMA_VERSION, run::now());
        let report = EvalModelsReport { schema_version, created, limit: self.reading.limit, results };
        if let Some(out) = &self.out {
            file::write_json(out, &report)?;
        }
        Ok(report)
    }

    /// How each data set is read by each model.
    fn plans(&self, resolve: &mut dyn FnMut(&Plan) -> Result<Plan>) -> Result<Vec<Plan>> {
        let pairs = self.data.iter().flat_map(|data| self.models.iter().map(move |model| (model, data)));
        // Nothing is replaced at the hook, so that any will do.
        let plan = |(model, data): (&PathBuf, &PathBuf)| Plan {
            model: model.clone(),
            data: data.clone(),
            hooks: vec![Hook::block(0)],
            ..self.reading.clone()
        };
        pairs.map(plan).map(|plan| resolve(&plan)).collect()
    }
}

/// The sums of every sample with a token that is predicted, and how many rows were skipped.
fn read(plan: &Plan, rows: u64, control: &mut Control) -> Result<(Vec<SampleSums>, u64)> {
    let runner = SpliceRunner::open(plan)?;
    let mut staged = control.stage(Stage::Model, rows)?;
    let cancel = staged.cancel();
    let no_splices = |_: &[&Token], _: &[&[f32]]| cancel.check().map(|()| Vec::new()).map_err(Into::into);
    let mut samples = Vec::new();
    let skipped = runner.run(&no_splices, &mut |predicted, rows| {
        staged.show(rows);
        let Some(predicted) = predicted else { return };
        samples.push(SampleSums {
            id: predicted.sample.sample.id.clone(),
            nats: predicted.predictions[0].iter().map(|prediction| f64::from(prediction.nll)).sum(),
            tokens: predicted.targets.len() as f64,
            bytes: predicted.sample.text_bytes(predicted.targets) as f64,
        });
    })?;
    Ok((samples, skipped.rows()))
}

/// By how much the bits per byte of a model exceed those of another one, if both read the same samples.
fn difference(samples: &[SampleSums], first: &[SampleSums]) -> Option<[f64; 3]> {
    let same = samples.iter().map(|sample| &sample.id).eq(first.iter().map(|sample| &sample.id));
    same.then(|| {
        let [model, first] = [samples, first].map(|s| s.iter().map(SampleSums::bits_by_bytes).collect::<Vec<_>>());
        difference_of_ratios(&model, &first).interval(model.len()).triple()
    })
}

impl TextLikelihood {
    fn new(plan: &Plan, samples: &[SampleSums], skipped: u64, difference: Option<[f64; 3]>) -> Result<Self> {
        let sum = |of: fn(&SampleSums) -> f64| samples.iter().map(of).sum::<f64>() as u64;
        let ratio = |of: fn(&SampleSums) -> [f64; 2]| {
            ratio_of_sums(&samples.iter().map(of).collect::<Vec<_>>()).interval(samples.len()).triple()
        };
        let (tokens, bytes) = (sum(|s| s.tokens), sum(|s| s.bytes));
        if tokens == 0 || bytes == 0 {
            return Err(Error::NothingToPredict);
        }
        let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self {
            model: harvest::hub::model_name(&plan.model),
            data: name(&plan.data),
            samples: samples.len() as u64,
            tokens,
            bytes,
            skipped,
            bits_per_byte: ratio(SampleSums::bits_by_bytes),
            nats_per_token: ratio(|s| [s.nats, s.tokens]),
            difference,
        })
    }
}
