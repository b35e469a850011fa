//! How likely a model finds the answers of a data set: each token, the end of the last answer, and the tokens of the answers by
//! themselves, without the images and the question before them. Stores nothing, and does not know what follows from it.

use crate::checkpoint::Checkpoint;
use crate::data::Source;
use crate::model::{Compute, Input, Model};
use crate::predictions::for_each_prepared;
use crate::prepared::Prepared;
use crate::{Plan, Result};
use sae_core::store::SkipList;
use sae_core::store::sample::{Modality, Role, Token};

/// How likely a model finds the answers of one sample. All numbers are negative log-likelihoods in nats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerLikelihood {
    /// Of each token of the answers that has content and follows a text token, given everything before it. Of a sample
    /// without answers, of each such token of its text.
    pub tokens: Vec<f32>,
    /// Of the first token of the template behind the last answer, with which the model would end it. Nothing if the template
    /// puts nothing there.
    pub end: Option<f32>,
    /// Of the same tokens, given only the tokens of the answers before them and the first token of the sample if it belongs to
    /// the template; in a prefix, which begins with images, the first token of its text. Nothing for a token that nothing precedes
    /// then. Empty if it was not asked for, and for a sample without answers.
    pub alone: Vec<Option<f32>>,
}

/// What a run calls with every sample, and after every batch with none, each time with the number of rows done so far.
pub type Visit<'a> = dyn FnMut(Option<(&Prepared, &AnswerLikelihood)>, u64) + 'a;

/// A model and a data set, ready to compute the likelihoods of its answers.
pub struct LikelihoodRunner<'a> {
    plan: &'a Plan,
    checkpoint: Checkpoint,
    source: Source,
    model: Model,
}

/// The positions of a sample whose tokens are predicted.
#[derive(Debug, Default, PartialEq)]
struct Targets {
    tokens: Vec<usize>,
    end: Option<usize>,
}

/// The answers of a sample without what precedes them.
#[derive(Debug, Default, PartialEq)]
struct Alone {
    ids: Vec<u32>,
    /// For each target of the sample, its position in `ids`. Position 0 cannot be predicted.
    positions: Vec<usize>,
}

impl Targets {
    fn new(sample: &Prepared) -> Self {
        let tokens = sample.targets();
        let answers: Vec<usize> =
            tokens.iter().copied().filter(|at| sample.tokens[*at].role == Role::Assistant).collect();
        let last = sample.tokens.iter().rposition(|token| is_answer(token) && token.modality == Modality::Text);
        let behind = last.map(|last| last + 1).filter(|at| sample.tokens.get(*at).is_some_and(|token| token.special));
        Self { tokens: if answers.is_empty() { tokens } else { answers }, end: behind }
    }

    fn positions(&self) -> Vec<usize> {
        self.tokens.iter().copied().chain(self.end).collect()
    }
}

impl Alone {
    fn new(sample: &Prepared, targets: &Targets) -> Self {
        // A prefix has its images before the token that begins the text.
        let images = sample.tokens.iter().take_while(|token| sample.prefix > 0 && token.modality == Modality::Image);
        let start = sample.tokens.get(images.count());
        let start = start.filter(|token| token.special && token.modality == Modality::Text);
        let answers: Vec<usize> = (0..sample.tokens.len()).filter(|at| is_answer(&sample.tokens[*at])).collect();
        if answers.is_empty() {
            return Self::default();
        }
        let ids = start.into_iter().chain(answers.iter().map(|at| &sample.tokens[*at]));
        let before = usize::from(start.is_some());
        let place = |at: &usize| answers.binary_search(at).map_or(0, |place| place + before);
        Self {
            ids: ids.map(|token| token.token_id as u32).collect(),
            positions: targets.tokens.iter().map(place).collect(),
        }
    }

    fn input(&self) -> Input {
        Input { ids: self.ids.clone(), ..Input::default() }
    }

    /// The positions that can be predicted.
    fn predicted(&self) -> Vec<usize> {
        self.positions.iter().copied().filter(|at| *at > 0).collect()
    }
}

/// Whether a token is a word of an answer, rather than an image or the template.
fn is_answer(token: &Token) -> bool {
    token.role == Role::Assistant && token.modality == Modality::Text && !token.special
}

impl<'a> LikelihoodRunner<'a> {
    /// Loads the whole model. The layers of the plan and its settings for storing are ignored.
    ///
    /// # Errors
    /// The plan divides rows into pieces or does not fit the checkpoint, or the checkpoint or the data cannot be read.
    pub fn open(plan: &'a Plan) -> Result<Self> {
        plan.check_whole("a prediction of tokens")?;
        let checkpoint = plan.checkpoint()?;
        let source = plan.source()?;
        let model = checkpoint.load(None, &Compute::on(&plan.device.open()?, plan.dtype.into()))?;
        Ok(Self { plan, checkpoint, source, model })
    }

    /// The checkpoint of the model.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Runs the model over the data; with `alone` once more over the answers by themselves. `check` is called before each batch,
    /// and its error ends the run.
    ///
    /// # Errors
    /// A file cannot be read, the device failed, or `check` returned an error. A row that cannot be used stops nothing; such
    /// rows are counted in the returned list.
    pub fn run(&self, alone: bool, check: &(dyn Fn() -> Result<()> + Sync), visit: &mut Visit) -> Result<SkipList> {
        self.run_as(self.plan, alone, check, visit)
    }

    /// Runs as another plan, which differs from that of this runner in nothing but its corruptions.
    ///
    /// # Errors
    /// As [`LikelihoodRunner::run`].
    pub fn run_as(
        &self,
        plan: &Plan,
        alone: bool,
        check: &(dyn Fn() -> Result<()> + Sync),
        visit: &mut Visit,
    ) -> Result<SkipList> {
        let batch = |samples: &[Prepared]| {
            check()?;
            self.batch(samples, alone)
        };
        for_each_prepared(plan, &self.checkpoint, &self.source, batch, &mut |samples, found, done| {
            samples.iter().zip(&found).for_each(|pair| visit(Some(pair), done));
            visit(None, done);
        })
    }

    fn batch(&self, samples: &[Prepared], alone: bool) -> Result<Vec<AnswerLikelihood>> {
        let targets: Vec<Targets> = samples.iter().map(Targets::new).collect();
        let inputs: Vec<Input> = samples.iter().map(|sample| self.checkpoint.input(sample)).collect();
        let positions: Vec<Vec<usize>> = targets.iter().map(Targets::positions).collect();
        let nll = self.model.nll(&inputs.iter().collect::<Vec<_>>(), &positions)?;
        let split = |(targets, mut tokens): (&Targets, Vec<f32>)| {
            let end = targets.end.and_then(|_| tokens.pop());
            AnswerLikelihood { tokens, end, alone: Vec::new() }
        };
        let mut found: Vec<AnswerLikelihood> = targets.iter().zip(nll).map(split).collect();
        if alone {
            let answers: Vec<Alone> = samples.iter().zip(&targets).map(|(s, targets)| Alone::new(s, targets)).collect();
            let with: Vec<usize> = (0..answers.len()).filter(|n| !answers[*n].predicted().is_empty()).collect();
            let inputs: Vec<Input> = with.iter().map(|n| answers[*n].input()).collect();
            let positions: Vec<Vec<usize>> = with.iter().map(|n| answers[*n].predicted()).collect();
            let nll = self.model.nll(&inputs.iter().collect::<Vec<_>>(), &positions)?;
            for (n, nll) in with.into_iter().zip(nll) {
                let mut nll = nll.into_iter();
                let of = |at: &usize| if *at > 0 { nll.next() } else { None };
                found[n].alone = answers[n].positions.iter().map(of).collect();
            }
        }
        Ok(found)
    }
}
