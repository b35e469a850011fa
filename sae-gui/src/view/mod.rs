//! The window: hands keys and clicks to the session and draws what it holds. Reads no file, and decides nothing that `state` can
//! decide. One page at a time, as tabs: what belongs together is on one page, and every page has a link.

mod action;
mod app;
mod card;
mod compare;
mod contrast;
mod contrast_examples;
mod contrast_plot;
mod dispatch;
mod excerpt;
mod feature;
mod filter;
mod filter_budget;
mod filter_cards;
mod filter_export;
mod folders;
mod heat_map;
mod histogram;
mod keys;
mod label;
mod label_dialog;
mod lists;
mod map;
mod menu_bar;
mod overlays;
mod pages;
mod picture;
mod playground;
mod plot;
mod probe;
mod prompt;
mod recovery;
mod report;
mod requested;
mod rows;
mod sample;
mod sample_cache;
mod sample_scores;
mod samples;
mod screenshot;
mod search;
mod side;
mod status_bar;
mod table;
mod test_box;
mod theme;
mod viewer;
mod volcano;
mod widgets;
mod workers;

pub use app::{App, Options};
pub use screenshot::Outcome;

use action::Action;
