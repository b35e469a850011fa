//! The worker of budgets: ranks samples by score and cost once, and then finds the selection at one limit after the other. The
//! selection is that of `sae filter`.

use super::mailbox::{Mailbox, Worker};
use super::{guarded, message};
use crate::state::budget::{BudgetAnswer, BudgetChoice, BudgetQuestion};
use filters::select::Keep;
use filters::select::budget::{BudgetRule, FrontierPoint, Limit, MovableBudget};
use sae_workbench::filter::BudgetRules;
use sae_workbench::{FilterBy, FilterRequest, SelectionRules};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

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
    let mut ranked: Option<(BudgetChoice, Result<Ranked, String>)> = None;
    loop {
        let question = match mailbox.next(Duration::from_secs(3600), take_task) {
            None => continue,
            Some(Task::Quit) => return,
            Some(Task::Answer(question)) => question,
        };
        if ranked.as_ref().is_none_or(|(choice, _)| *choice != question.choice) {
            let new = guarded(|| Ranked::new(root, sae, &question.choice));
            ranked = Some((question.choice.clone(), new));
        }
        let Some((_, ranked)) = &mut ranked else { continue };
        let answer = match ranked {
            Err(reason) => BudgetAnswer { question, frontier: Err(reason.clone()), selection: None },
            Ok(Ranked { budget, frontier }) => {
                let at = |limit| guarded(|| budget.at(limit).map_err(|error| error.message()));
                let selection = question.limit.map(at);
                BudgetAnswer { question, frontier: Ok(frontier.clone()), selection }
            }
        };
        // The window may be gone; then `quit` comes next.
        let _ = sender.send(answer);
        wake();
    }
}

/// Samples by score and cost, and what every limit would allow.
struct Ranked {
    budget: MovableBudget,
    frontier: Vec<FrontierPoint>,
}

impl Ranked {
    fn new(root: &Path, sae: &str, choice: &BudgetChoice) -> Result<Self, String> {
        // The limit is moved later.
        let rule = BudgetRule { column: choice.column.clone(), side: choice.side, limit: Limit::Mean(0.0) };
        let rules = SelectionRules {
            sae: Some(sae.into()),
            by_group: choice.by_group.clone(),
            equal_groups: choice.equal_groups,
            within: choice.within.clone(),
            budgets: BudgetRules { limits: vec![rule], ..BudgetRules::default() },
            ..SelectionRules::new(&choice.by, Keep::Count(choice.keep))
        };
        let budget = FilterRequest::new(root, FilterBy::Rules(rules), "").movable_budget().map_err(message)?;
        Ok(Self { frontier: budget.frontier(), budget })
    }
}
