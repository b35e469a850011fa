//! Measures how fast a model reads prompts and writes answers on the CPU, and compares the writing with how fast this machine reads the
//! weights: each step has to read all of them once, for one answer as for several.

use super::model::{BenchModel, Found, input};
use super::{median, threads};
use crate::control::Control;
use crate::{Error, Result};
use burn::tensor::Device;
use harvest::ComputeDtype;
use harvest::generation::Sampling;
use harvest::model::{Compute, Input, KvCache, Model, flops};
use sae_core::store::Hook;
use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;

/// Numbers that are read to measure the memory: more than caches hold.
const BUFFER: usize = 1 << 26;

/// Which generation to time.
#[derive(Clone, Debug)]
pub struct BenchGenerateRequest {
    /// The model.
    pub model: BenchModel,
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens of an answer.
    pub tokens: usize,
    /// How many prompts are answered at the same time, in each of several settings.
    pub batches: Vec<usize>,
    /// The precision of the weights.
    pub dtype: ComputeDtype,
    /// Rounds of memory, prompts and answers.
    pub rounds: usize,
}

/// What would be timed.
#[derive(Clone, Debug, Serialize)]
pub struct BenchGeneratePlan {
    /// `bench generate`.
    pub command: &'static str,
    /// The model.
    pub model: String,
    /// Its architecture.
    pub architecture: String,
    /// Its decoder blocks.
    pub blocks: usize,
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens of an answer.
    pub tokens: usize,
    /// How many prompts are answered at the same time.
    pub batches: Vec<usize>,
    /// The precision of the weights.
    pub dtype: ComputeDtype,
    /// Bytes of the weights that each step reads: of all blocks and of the output head.
    pub bytes_per_step: f64,
}

/// What was timed; rates are medians of the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct BenchGenerateReport {
    /// What was run.
    #[serde(flatten)]
    pub plan: BenchGeneratePlan,
    /// Threads.
    pub threads: usize,
    /// Bytes of memory that all threads together read per second.
    pub memory_bytes_per_s: f64,
    /// Each number of prompts.
    pub rates: Vec<BatchRate>,
    /// Rounds.
    #[serde(skip)]
    pub rounds: usize,
}

/// How fast several prompts are answered at the same time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BatchRate {
    /// Prompts.
    pub prompts: usize,
    /// Tokens of prompts per second.
    pub prompt_tokens_per_s: f64,
    /// Tokens of answers per second, of all prompts together.
    pub tokens_per_s: f64,
    /// The same if a step took as long as reading the weights from memory.
    pub memory_tokens_per_s: f64,
    /// `tokens_per_s` as a share of it.
    pub of_memory: f64,
}

impl BenchGenerateRequest {
    /// What [`BenchGenerateRequest::run`] would time.
    ///
    /// # Errors
    /// A model that is not supported or has not been downloaded; invalid sizes.
    pub fn plan(&self) -> Result<BenchGeneratePlan> {
        Ok(self.open(None)?.1)
    }

    /// Times reading memory, prompts and answers, in turns.
    ///
    /// # Errors
    /// As [`BenchGenerateRequest::plan`]; weights that do not fit the model.
    pub fn run(&self, control: &mut Control) -> Result<BenchGenerateReport> {
        let (Found { config, weights, .. }, plan) = self.open(Some(control))?;
        let model = Model::load(&config, &weights, None, &Compute::on(&Device::flex(), self.dtype.into()))?;
        let memory = vec![1u64; BUFFER];
        let mut bandwidth = Vec::new();
        let mut seconds = vec![[Vec::new(), Vec::new()]; self.batches.len()];
        // The first round is a warm-up.
        for round in 0..=self.rounds {
            let rate = read(&memory);
            if round > 0 {
                bandwidth.push(rate);
            }
            for (prompts, seconds) in self.batches.iter().zip(&mut seconds) {
                let inputs = (0..*prompts).map(|n| input(&config, None, self.prompt, n as u64));
                let took = self.answer(&model, inputs.collect::<Result<_>>()?)?;
                if round > 0 {
                    seconds.iter_mut().zip(took).for_each(|(all, took)| all.push(took));
                }
            }
        }
        let memory_bytes_per_s = median(bandwidth);
        let rate = |(prompts, [prompt, answer]): (usize, [Vec<f64>; 2])| {
            let tokens = |each: usize, seconds: Vec<f64>| (prompts * each) as f64 / median(seconds);
            let memory_tokens_per_s = prompts as f64 * memory_bytes_per_s / plan.bytes_per_step;
            // The first token of an answer follows from its prompt.
            let tokens_per_s = tokens(self.tokens - 1, answer);
            BatchRate {
                prompts,
                prompt_tokens_per_s: tokens(self.prompt, prompt),
                tokens_per_s,
                memory_tokens_per_s,
                of_memory: tokens_per_s / memory_tokens_per_s,
            }
        };
        let rates = self.batches.iter().copied().zip(seconds).map(rate).collect();
        Ok(BenchGenerateReport { threads: threads(), memory_bytes_per_s, rates, rounds: self.rounds, plan })
    }

    /// The seconds that the prompts take, and those that the answers take, whose most likely tokens are written.
    fn answer(&self, model: &Model, mut inputs: Vec<Input>) -> Result<[f64; 2]> {
        let last = Hook::block(model.config().text.layers.len() - 1);
        let mut caches = vec![KvCache::default(); inputs.len()];
        let mut took = [0.0; 2];
        let is_image = |id: usize| {
            let vision = model.config().vision.as_ref();
            vision.is_some_and(|vision| vision.is_placeholder(id as u32))
        };
        for token in 0..self.tokens {
            let start = Instant::now();
            let batch: Vec<&Input> = inputs.iter().collect();
            let mut kept: Vec<&mut KvCache> = caches.iter_mut().collect();
            let states = model.pause(&mut kept, &batch, &[last])?;
            let mut next = vec![None; batch.len()];
            let mut choose = |n: usize, _: usize, logits: &[f32]| {
                let mut logits = logits.to_vec();
                // An image would have to follow its placeholder.
                (0..logits.len()).filter(|id| is_image(*id)).for_each(|id| logits[id] = f32::NEG_INFINITY);
                next[n] = Sampling::GREEDY.choose(&logits, &[], 0.0);
            };
            model.logits_after(&mut kept, last, &batch, &states, &vec![1; batch.len()], &mut choose)?;
            inputs.iter_mut().zip(next).for_each(|(input, next)| input.ids.push(next.unwrap_or_default()));
            took[usize::from(token > 0)] += start.elapsed().as_secs_f64();
        }
        Ok(took)
    }

    fn open(&self, control: Option<&mut Control>) -> Result<(Found, BenchGeneratePlan)> {
        let sizes = [self.rounds, self.prompt, self.batches.len()];
        if sizes.contains(&0) || self.batches.contains(&0) || self.tokens < 2 {
            return Err(Error::Bench {
                expected: "at least one round of one prompt of one token and an answer of two",
            });
        }
        let found = self.model.open(control)?;
        let (text, longest) = (&found.config.text, self.prompt + self.tokens);
        if longest > text.context {
            return Err(harvest::Error::ContextFull { context: text.context }.into());
        }
        let bytes = match self.dtype {
            ComputeDtype::F32 => 4.0,
            ComputeDtype::Bf16 => 2.0,
        };
        let plan = BenchGeneratePlan {
            command: "bench generate",
            model: found.name.clone(),
            architecture: found.config.architecture.clone(),
            blocks: text.layers.len(),
            prompt: self.prompt,
            tokens: self.tokens,
            batches: self.batches.clone(),
            dtype: self.dtype,
            bytes_per_step: bytes * flops::weights_of_step(&found.config),
        };
        Ok((found, plan))
    }
}

/// Bytes per second that all threads together read from memory.
fn read(memory: &[u64]) -> f64 {
    let start = Instant::now();
    let each = memory.len().div_ceil(threads());
    std::thread::scope(|scope| {
        let sum = |part: &[u64]| part.iter().fold(0u64, |sum, number| sum.wrapping_add(*number));
        memory.chunks(each).for_each(|part| drop(scope.spawn(move || black_box(sum(part)))));
    });
    size_of_val(memory) as f64 / start.elapsed().as_secs_f64()
}
