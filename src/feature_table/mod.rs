//! The table of features, as people search and sort it: in the app and in the browser. Holds the rows of the index, what people
//! wrote, and the typical words; reads no file and draws nothing.

pub mod annotations;
pub mod caption_shares;
pub mod field;
pub mod list;
pub mod positions;
pub mod query;
pub mod typical_words;

pub use annotations::Annotations;
pub use field::Field;
pub use list::{FeatureList, FeatureName, Sort};
pub use positions::PositionCounts;
pub use query::Query;
pub use typical_words::TypicalWords;
