//! Work that overlaps: one thread makes items, several threads work on them, and the caller receives the results in the order
//! of the items. The number of items in memory is fixed. Knows nothing of models.

use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;
use std::thread;

/// What a maker of items does with each of them. It says when nobody wants more.
pub(crate) type Emit<'a, T> = &'a mut dyn FnMut(T) -> ControlFlow<()>;

/// Results in the order of their items.
pub(crate) type Results<'a, R> = &'a mut (dyn Iterator<Item = R> + Send);

/// Calls `work` with every item that `make` emits, and with the number of the worker that does it. `make` runs on a thread of
/// its own, and so does each of `workers` workers, to whom the items are dealt in turn. `receive` runs on this thread. It may
/// end before the results do; the threads then end with the items that they have.
///
/// Besides what `receive` holds, at most `1 + 2 * workers` items or results are in memory: an item that is made, and for each
/// worker an item that it works on and a result that waits.
///
/// # Panics
/// If `make` or `work` panics. The results end early in this case, so what `receive` returned is lost.
pub(crate) fn overlap<T, R, O>(
    make: impl FnOnce(Emit<T>) -> ControlFlow<()> + Send,
    workers: usize,
    work: impl Fn(usize, T) -> R + Sync,
    receive: impl FnOnce(Results<R>) -> O,
) -> O
where
    T: Send,
    R: Send,
{
    let work = &work;
    thread::scope(|scope| {
        let (mut senders, mut results) = (Vec::new(), Vec::new());
        for worker in 0..workers {
            let (sender, items) = sync_channel(0);
            let (done, result) = sync_channel(1);
            senders.push(sender);
            results.push(result);
            scope.spawn(move || {
                for item in items {
                    if done.send(work(worker, item)).is_err() {
                        return;
                    }
                }
            });
        }
        scope.spawn(move || {
            let mut turns = (0..workers).cycle();
            let _ = make(&mut |item| match turns.next().map(|worker| senders[worker].send(item)) {
                Some(Ok(())) => ControlFlow::Continue(()),
                Some(Err(_)) | None => ControlFlow::Break(()),
            });
        });
        // In the same turns, so that the results have the order of the items whichever worker is faster.
        let mut turns = (0..workers).cycle();
        let results = std::iter::from_fn(move || results[turns.next()?].recv().ok());
        receive(&mut results.fuse())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// Longer than anything here takes. It only ends a test that would wait forever.
    const LONG: Duration = Duration::from_secs(60);

    /// Items and results in memory besides those that were received.
    const fn most_items(workers: usize) -> usize {
        1 + 2 * workers
    }

    #[test]
    fn results_have_the_order_of_their_items_and_few_are_in_memory() {
        for workers in 1..5 {
            let made = AtomicUsize::new(0);
            let make = |emit: Emit<usize>| {
                (0..200).try_for_each(|n| {
                    made.fetch_add(1, Ordering::SeqCst);
                    emit(n)
                })
            };
            // Some items take longer than those after them.
            let work = |worker: usize, n: usize| {
                (0..(n * 7919 % 13) * 1000).for_each(|i| _ = std::hint::black_box(i));
                (worker, n)
            };
            let received = overlap(make, workers, work, |results| {
                let mut received = Vec::new();
                for result in results {
                    received.push(result);
                    // The one that was just received counts too.
                    let held = made.load(Ordering::SeqCst) + 1 - received.len();
                    assert!(held <= most_items(workers) + 1, "{held} items of {workers} workers");
                }
                received
            });
            let expected: Vec<_> = (0..200).map(|n| (n % workers, n)).collect();
            assert_eq!(received, expected);
        }
    }

    #[test]
    fn the_next_item_is_made_and_the_last_result_is_used_while_an_item_is_worked_on() {
        let (made, next_is_made) = channel();
        let (used, last_is_used) = channel();
        let signals = std::sync::Mutex::new((next_is_made, last_is_used));
        let make = |emit: Emit<usize>| {
            (0..3).try_for_each(|n| {
                made.send(n).unwrap();
                emit(n)
            })
        };
        // Works on item 1 until item 2 has been made and the result of item 0 has been used.
        let work = |_: usize, n: usize| {
            let signals = signals.lock().unwrap();
            if n == 1 {
                while signals.0.recv_timeout(LONG).expect("item 2 is made") < 2 {}
                assert_eq!(signals.1.recv_timeout(LONG), Ok(0));
            }
            n
        };
        let sum = overlap(make, 1, work, |results| results.inspect(|n| used.send(*n).unwrap()).sum::<usize>());
        assert_eq!(sum, 3);
    }

    #[test]
    fn who_has_enough_ends_everything() {
        let made = AtomicUsize::new(0);
        let make = |emit: Emit<usize>| loop {
            emit(made.fetch_add(1, Ordering::SeqCst))?;
        };
        let first = overlap(make, 2, |_, n| n, |mut results| Iterator::find(&mut results, |n| *n == 9));
        assert_eq!(first, Some(9));
        assert!(made.into_inner() <= 10 + most_items(2));
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_is_not_taken_for_the_end() {
        let make = |emit: Emit<usize>| (0..9).try_for_each(emit);
        overlap(make, 2, |_, n| assert!(n < 5), |results| results.count());
    }
}
