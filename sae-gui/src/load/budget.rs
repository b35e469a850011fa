//! The worker of budgets: reads scores and costs once, ranks samples once for each amount to keep, and then finds the selection at
//! one limit after the other. The selection is that of `sae filter`.

use super::mailbox::{Mailbox, Worker};
use super::{guarded, message};
use crate::state::budget::{BudgetAnswer, BudgetQuestion, BudgetSource};
use filters::select::Keep;
use filters::select::budget::{BudgetRule, FrontierPoint, Limit, MovableBudget, MovableInput};
use sae_workbench::filter::BudgetRules;
use sae_workbench::{FilterBy, FilterRequest, SelectionRules};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long nothing else must be asked before samples are ranked: a slider that is moved asks with every frame.
const PAUSE: Duration = Duration::from_millis(120);

/// The window's end of the worker.
pub struct BudgetWorker {
    worker: Worker<Requests>,
    replies: Receiver<BudgetAnswer>,
}

#[derive(Default)]
struct Requests {
    question: Option<BudgetQuestion>,
    quit: bool,
}

enum Task {
    Answer(BudgetQuestion),
    Quit,
}

fn take_task(requests: &mut Requests) -> Option<Task> {
    if requests.quit { Some(Task::Quit) } else { requests.question.take().map(Task::Answer) }
}

impl BudgetWorker {
    /// Starts the worker of an autoencoder of a run; `wake` is called after every answer.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(root: PathBuf, sae: String, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (sender, replies) = channel();
        let quit = |requests: &mut Requests| requests.quit = true;
        let work = move |mailbox: &_| work(mailbox, &root, &sae, &sender, &wake);
        Ok(Self { worker: Worker::start("budget", quit, false, work)?, replies })
    }

    /// Asks for the selection at a limit, and no longer at another one.
    pub fn ask(&self, question: BudgetQuestion) {
        self.worker.change(|requests| requests.question = Some(question));
    }

    /// What has been found since the last call.
    pub fn replies(&self) -> impl Iterator<Item = BudgetAnswer> {
        self.replies.try_iter()
    }
}

fn work(mailbox: &Mailbox<Requests>, root: &Path, sae: &str, sender: &Sender<BudgetAnswer>, wake: &impl Fn()) {
    let mut prepared = Prepared::default();
    loop {
        let question = match mailbox.next(Duration::from_secs(3600), take_task) {
            None => continue,
            Some(Task::Quit) => return,
            Some(Task::Answer(question)) if prepared.is_for(&question) => question,
            Some(Task::Answer(question)) => match last_question(mailbox, question, PAUSE) {
                Some(question) => question,
                None => return,
            },
        };
        let answer = prepared.answer(question, |source| read(root, sae, source));
        // The window may be gone; then `quit` comes next.
        let _ = sender.send(answer);
        wake();
    }
}

/// The question after which nothing else is asked for a while; nothing if the worker is to end.
fn last_question(mailbox: &Mailbox<Requests>, mut question: BudgetQuestion, pause: Duration) -> Option<BudgetQuestion> {
    loop {
        match mailbox.next(pause, take_task) {
            None => return Some(question),
            Some(Task::Quit) => return None,
            Some(Task::Answer(newer)) => question = newer,
        }
    }
}

/// Reads the scores and the costs of the samples. Amount and limit are chosen later.
fn read(root: &Path, sae: &str, source: &BudgetSource) -> Result<MovableInput, String> {
    let rule = BudgetRule { column: source.column.clone(), side: source.side, limit: Limit::Mean(0.0) };
    let rules = SelectionRules {
        sae: Some(sae.into()),
        by_group: source.by_group.clone(),
        equal_groups: source.equal_groups,
        within: source.within.clone(),
        budgets: BudgetRules { limits: vec![rule], unit: source.unit.clone(), promise: source.promise.clone() },
        ..SelectionRules::new(&source.by, Keep::Count(0))
    };
    FilterRequest::new(root, FilterBy::Rules(rules), "").movable_input().map_err(message)
}

/// What was read, and what was ranked of it, for the last question.
#[derive(Default)]
struct Prepared {
    input: Option<(BudgetSource, Result<MovableInput, String>)>,
    ranked: Option<(BudgetQuestion, Result<Ranked, String>)>,
}

/// Samples by score and cost, and what every limit would allow.
struct Ranked {
    budget: MovableBudget,
    frontier: Vec<FrontierPoint>,
}

impl Prepared {
    /// Whether a question asks for another limit at most.
    fn is_for(&self, question: &BudgetQuestion) -> bool {
        self.ranked.as_ref().is_some_and(|(ranked, _)| ranked.has_frontier_of(question))
    }

    /// Answers a question. `read` is called if it is about something else than the last one.
    fn answer(
        &mut self,
        question: BudgetQuestion,
        read: impl FnOnce(&BudgetSource) -> Result<MovableInput, String>,
    ) -> BudgetAnswer {
        match self.ranked(&question, read) {
            Err(reason) => BudgetAnswer { frontier: Err(reason.clone()), selection: None, question },
            Ok(Ranked { budget, frontier }) => {
                let at = |limit| guarded(|| budget.at(limit).map_err(|error| error.message()));
                let selection = question.limit.map(at);
                BudgetAnswer { frontier: Ok(frontier.clone()), selection, question }
            }
        }
    }

    /// What was ranked for a question.
    fn ranked(
        &mut self,
        question: &BudgetQuestion,
        read: impl FnOnce(&BudgetSource) -> Result<MovableInput, String>,
    ) -> &mut Result<Ranked, String> {
        let kept = self.ranked.take().filter(|(ranked, _)| ranked.has_frontier_of(question));
        let ranked = match kept {
            Some((_, ranked)) => ranked,
            None => self.rank(question, read),
        };
        &mut self.ranked.insert((question.clone(), ranked)).1
    }

    fn rank(
        &mut self,
        question: &BudgetQuestion,
        read: impl FnOnce(&BudgetSource) -> Result<MovableInput, String>,
    ) -> Result<Ranked, String> {
        let kept = self.input.take().filter(|(source, _)| *source == question.source);
        let input = kept.unwrap_or_else(|| (question.source.clone(), guarded(|| read(&question.source))));
        let input = self.input.insert(input).1.as_ref().map_err(Clone::clone)?;
        guarded(|| {
            let budget = input.keep(question.keep).map_err(|error| error.message())?;
            Ok(Ranked { frontier: budget.frontier(), budget })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use filters::select::budget::{Budget, Side};
    use filters::select::{Division, Groups};

    fn question(column: &str, keep: usize, limit: f64) -> BudgetQuestion {
        let source = BudgetSource::new("pmi", column, Side::AtMost);
        BudgetQuestion { source, keep: Keep::Count(keep), limit: Some(limit) }
    }

    /// Four samples whose scores and costs are their numbers.
    fn input() -> MovableInput {
        let number = |n: u32| Some(f64::from(n));
        MovableInput {
            scores: (0..4).map(|n| (n.to_string(), number(n))).collect(),
            groups: Groups::one(4),
            division: Division::Proportional,
            within: None,
            budget: Budget { rule: "harm<=0".parse().unwrap(), costs: (0..4).map(number).collect() },
            units: None,
            promise: None,
        }
    }

    #[test]
    fn files_are_read_again_only_for_another_score_or_number() {
        let (mut prepared, mut reads) = (Prepared::default(), 0);
        let mut score = |question: BudgetQuestion| {
            let answer = prepared.answer(question, |_| {
                reads += 1;
                Ok(input())
            });
            (reads, answer.selection.unwrap().unwrap().0.score)
        };
        assert_eq!(score(question("harm", 2, 1.5)), (1, 1.5));
        assert_eq!(score(question("harm", 2, 2.5)), (1, 2.5), "another limit");
        assert_eq!(score(question("harm", 1, 3.0)), (1, 3.0), "another amount");
        assert_eq!(score(question("help", 1, 3.0)), (2, 3.0), "another number");
        let answer = prepared.answer(question("none", 1, 3.0), |_| Err("there is no such number".into()));
        assert_eq!((answer.frontier, answer.selection), (Err("there is no such number".into()), None));
    }

    #[test]
    fn samples_are_ranked_for_the_last_of_several_questions() {
        let mailbox = Mailbox::default();
        let ask =
            |keep| mailbox.change(|requests: &mut Requests| requests.question = Some(question("harm", keep, 1.0)));
        let last = || last_question(&mailbox, question("harm", 1, 1.0), Duration::ZERO);
        assert_eq!(last().unwrap().keep, Keep::Count(1), "nothing else is asked");
        ask(2);
        ask(3);
        assert_eq!(last().unwrap().keep, Keep::Count(3));
        mailbox.change(|requests| requests.quit = true);
        assert_eq!(last(), None);
    }
}
