//! Likelihoods of answers: the tokens, the end and the answer by itself are those of a model that is asked position by position.

use crate::golden::repository;
use harvest::model::{Compute, Input};
use harvest::{AnswerLikelihood, Checkpoint, LikelihoodRunner, Plan, SpliceRunner};
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use sae_core::store::sample::{Role, Token};
use std::collections::BTreeMap;

/// The bundled model on its first rows.
fn plan(limit: u64) -> Plan {
    let (model, data) = (repository().join("assets/demo-mllm"), repository().join("assets/demo-data/data.jsonl"));
    Plan {
        limit: Some(limit),
        device: DeviceChoice::Cpu,
        batch_tokens: 1024,
        ..Plan::new(model, data, vec![Hook::block(4)])
    }
}

fn likelihoods(plan: &Plan, alone: bool) -> BTreeMap<String, AnswerLikelihood> {
    let mut found = BTreeMap::new();
    let mut rows = 0;
    let runner = LikelihoodRunner::open(plan).unwrap();
    let skipped = runner.run(alone, &|| Ok(()), &mut |predicted, done| {
        rows = done;
        if let Some((sample, likelihood)) = predicted {
            found.insert(sample.sample.source.clone(), likelihood.clone());
        }
    });
    assert_eq!((skipped.unwrap().rows(), rows), (0, plan.limit.unwrap()));
    found
}

#[test]
fn tokens_are_those_that_a_runner_of_replacements_predicts() {
    let plan = plan(40);
    let found = likelihoods(&plan, false);
    let runner = SpliceRunner::open(&plan).unwrap();
    let mut compared = 0;
    let no_splices = |_: &[&Token], _: &[&[f32]]| Ok(Vec::new());
    let each = &mut |predicted: Option<&harvest::Predicted>, _| {
        let Some(predicted) = predicted else { return };
        let tokens = predicted.targets.iter().zip(predicted.predictions[0]);
        let answer = tokens.filter(|(at, _)| predicted.sample.tokens[**at].role == Role::Assistant);
        let nll: Vec<f32> = answer.map(|(_, prediction)| prediction.nll).collect();
        let found = &found[&predicted.sample.sample.source];
        assert!(found.alone.is_empty() && found.tokens.len() == nll.len());
        assert!(found.tokens.iter().zip(&nll).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?} {nll:?}");
        compared += nll.len();
    };
    runner.run(&no_splices, each).unwrap();
    assert!(compared > 200, "{compared}");
}

#[test]
fn ends_and_answers_by_themselves_are_those_of_plain_inputs() {
    let plan = plan(12);
    let found = likelihoods(&plan, true);
    let checkpoint = Checkpoint::open(&plan.model).unwrap();
    let model = checkpoint.load(None, &Compute::Host { bf16: false }).unwrap();
    let by_position = |input: &Input, position: usize| model.nll(&[input], &[vec![position]]).unwrap()[0][0];
    let runner = LikelihoodRunner::open(&plan).unwrap();
    let mut prepared = Vec::new();
    let visit = &mut |predicted: Option<(&harvest::Prepared, &AnswerLikelihood)>, _| {
        prepared.extend(predicted.map(|(sample, _)| sample.clone()));
    };
    runner.run(false, &|| Ok(()), visit).unwrap();
    for sample in prepared {
        let found = &found[&sample.sample.source];
        // `</s>` is the last token of the sample, and the caption is all that the assistant says.
        let last = sample.tokens.len() - 1;
        assert_eq!(sample.tokens[last].piece, "</s>");
        assert!((found.end.unwrap() - by_position(&checkpoint.input(&sample), last)).abs() < 1e-4);
        let caption = sample.tokens.iter().filter(|token| token.role == Role::Assistant);
        let ids = [&sample.tokens[0]].into_iter().chain(caption).map(|token| token.token_id as u32);
        let alone = Input { ids: ids.collect(), ..Input::default() };
        assert_eq!(found.alone.len(), alone.ids.len() - 1);
        for (n, nll) in found.alone.iter().enumerate() {
            assert!((nll.unwrap() - by_position(&alone, n + 1)).abs() < 1e-4);
        }
    }
}
