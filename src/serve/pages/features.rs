//! `/features`: the table of features, searched and sorted as in the app, a part of it at a time.

use super::{Shell, View, hidden};
use crate::feature_table::{FeatureList, FeatureName, Field, Sort};
use crate::numbers::{count, counted};
use crate::serve::params::Params;
use crate::serve::problem::Problem;
use crate::serve::site::Site;
use sae_core::analysis::dashboard::WeightsView;
use sae_core::analysis::dashboard::html::{Column, Markup, table, tag};
use sae_core::analysis::index::FeatureRow;
use sae_core::numbers::{real, share};
use serde::Serialize;

/// Rows of a part, unless another number is asked for, and at most.
const ROWS: [usize; 2] = [50, 1000];

/// A part of the table.
#[derive(Clone, Debug, Serialize)]
pub struct FeaturesView {
    /// The autoencoder.
    pub sae: String,
    /// The search.
    pub search: String,
    /// What of the search was not understood.
    pub problem: Option<String>,
    /// The two columns that the table is sorted by, such as `class,-weight`; a minus puts the largest value on top.
    pub sort: String,
    /// All features.
    pub total: usize,
    /// Features that the search finds.
    pub found: usize,
    /// Which part this is, from 1.
    pub page: usize,
    /// Number of parts.
    pub pages: usize,
    /// Rows of a part.
    pub per_page: usize,
    /// The features.
    pub features: Vec<FeatureLine>,
    #[serde(skip)]
    columns: Vec<Field>,
    #[serde(skip)]
    order: [Sort; 2],
    #[serde(skip)]
    cells: Vec<Vec<String>>,
}

/// A feature in the table: its row of `features.parquet`, rates, and what people wrote.
#[derive(Clone, Debug, Serialize)]
pub struct FeatureLine {
    /// The feature.
    pub feature: u32,
    /// `text`, `image`, `cross`, `action` or `dead`.
    pub class: String,
    /// Positions where it fires.
    pub fires: u64,
    /// Text positions where it fires.
    pub fires_text: u64,
    /// Image positions where it fires.
    pub fires_image: u64,
    /// Share of the text positions where it fires; nothing if there are none.
    pub rate_text: Option<f64>,
    /// Share of the image positions where it fires; nothing if there are none.
    pub rate_image: Option<f64>,
    /// Share of positions where it fires.
    pub density: f64,
    /// Its largest activation.
    pub max: f32,
    /// Its largest activation on text.
    pub max_text: f32,
    /// Its largest activation on images.
    pub max_image: f32,
    /// Its mean activation where it fires.
    pub mean: f32,
    /// Its cross-modal weights.
    pub weights: WeightsView,
    /// What people call it; nothing if nobody has labeled it.
    pub label: Option<String>,
    /// What stands in for a label: words that are typical of it.
    pub typical_words: Option<String>,
    /// Whether it is marked to come back to.
    pub star: bool,
}

impl FeatureLine {
    fn new(list: &FeatureList, row: &FeatureRow) -> Self {
        let words = list.typical_words(row.feature).map(|words| words.summary()).filter(|words| !words.is_empty());
        Self {
            feature: row.feature,
            class: row.class.clone(),
            fires: row.fires,
            fires_text: row.fires_text,
            fires_image: row.fires_image,
            rate_text: list.positions().rate_text(row),
            rate_image: list.positions().rate_image(row),
            density: row.density,
            max: row.max,
            max_text: row.max_text,
            max_image: row.max_image,
            mean: row.mean,
            weights: WeightsView::new(row),
            label: list.annotations().label(row.feature).map(str::to_owned),
            typical_words: words,
            star: list.annotations().star(row.feature),
        }
    }
}

impl FeaturesView {
    /// The part that is asked for.
    ///
    /// # Errors
    /// There is no index; a column or a number that there is not.
    pub fn new(site: &Site, params: &Params) -> Result<Self, Problem> {
        let order = params.get("sort").map(sort).transpose()?;
        let columns = match params.get("columns") {
            Some(names) => names.split(',').map(field).collect::<Result<_, _>>()?,
            None => Field::DEFAULT_COLUMNS.to_vec(),
        };
        let [usual, most] = ROWS;
        let per_page = params.number("per_page", usual)?.clamp(1, most);
        let page = params.number("page", 1usize)?;
        let (table, search) = (site.table()?, params.get("search").unwrap_or_default());
        let sae = table.source.sae.clone();
        site.with_list(&table, search, |list| {
            match order {
                Some(order) => list.set_sort(order),
                None => list.sort_by_default(),
            }
            let pages = list.len().div_ceil(per_page).max(1);
            let page = page.clamp(1, pages);
            let rows: Vec<&FeatureRow> = list.shown().skip((page - 1) * per_page).take(per_page).collect();
            let cells = |row: &&FeatureRow| columns.iter().map(|field| cell(list, *field, row)).collect();
            Self {
                sae,
                search: search.to_owned(),
                problem: list.problem().map(str::to_owned),
                sort: Sort::format(list.sort()),
                total: list.total(),
                found: list.len(),
                page,
                pages,
                per_page,
                features: rows.iter().map(|row| FeatureLine::new(list, row)).collect(),
                cells: rows.iter().map(cells).collect(),
                order: list.sort(),
                columns,
            }
        })
    }

    /// The parameters of another part or order of the same search.
    fn parameters<'a>(
        &'a self,
        sort: &'a str,
        page: &'a str,
        columns: &'a str,
        per_page: &'a str,
    ) -> [(&'a str, &'a str); 5] {
        [("search", &self.search), ("sort", sort), ("page", page), ("columns", columns), ("per_page", per_page)]
    }

    fn column_names(&self) -> String {
        if self.columns == Field::DEFAULT_COLUMNS {
            return String::new();
        }
        self.columns.iter().map(|field| field.name()).collect::<Vec<_>>().join(",")
    }

    fn rows_of_a_part(&self) -> String {
        if self.per_page == ROWS[0] { String::new() } else { self.per_page.to_string() }
    }
}

fn field(name: &str) -> Result<Field, Problem> {
    Field::from_name(name).ok_or_else(|| {
        let known = Field::ALL.map(Field::name).join(", ");
        Problem::invalid(format!("there is no column {name:?}: expected one of {known}"))
    })
}

/// One column, or two with a comma between them.
fn sort(text: &str) -> Result<[Sort; 2], Problem> {
    let two = if text.contains(',') { text.to_owned() } else { format!("{text},feature") };
    let invalid = || Problem::invalid(format!("invalid order {text:?}: expected one such as class,-weight"));
    Sort::parse(&two).ok_or_else(invalid)
}

fn cell(list: &FeatureList, field: Field, row: &FeatureRow) -> String {
    match field {
        Field::Class => row.class.clone(),
        Field::Label => match list.name(row.feature) {
            Some(FeatureName::Label(label)) => label,
            Some(FeatureName::StandIn(words)) => format!("({words})"),
            None => String::new(),
        },
        _ => match list.value(field, row) {
            None => String::new(),
            Some(value) if field.is_count() && field != Field::Feature => count(value as u64),
            Some(value) if field.is_share() => share(value),
            Some(value) => real(value),
        },
    }
}

impl View for FeaturesView {
    fn title(&self) -> String {
        format!("Features of {}", self.sae)
    }

    fn main(&self, shell: &Shell) -> Markup {
        let heading = tag("h1").text(&self.title());
        heading.and(self.form(shell)).and(self.table(shell)).and(self.pages(shell))
    }
}

impl FeaturesView {
    fn form(&self, shell: &Shell) -> Markup {
        let label = tag("label").attr("for", "search").text("Search");
        let hint = "words, numbers, class:cross density>1% label:\"red ring\" star:yes";
        let field = tag("input").attr("type", "search").attr("id", "search").attr("name", "search");
        let field = field.attr("value", &self.search).attr("placeholder", hint).attr("accesskey", "s").empty();
        let (columns, per_page) = (self.column_names(), self.rows_of_a_part());
        let fields = [("sort", self.sort.as_str()), ("columns", columns.as_str()), ("per_page", per_page.as_str())];
        let fields: Markup =
            fields.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| hidden(name, value)).collect();
        let button = tag("button").attr("type", "submit").text("Search");
        let form = tag("form").attr("method", "get").attr("action", "/features").attr("role", "search");
        let form = form.of(label.and(field).and(" ").and(button).and(fields).and(shell.hidden_token()));
        let problem = self.problem.as_ref();
        form.and(problem.map(|problem| tag("p").class("notice problem").attr("role", "status").text(problem)))
    }

    fn table(&self, shell: &Shell) -> Markup {
        let (columns, per_page) = (self.column_names(), self.rows_of_a_part());
        let heads = self.columns.iter().map(|field| {
            let sort = Sort::format(Sort::by(self.order, *field));
            let address = shell.to("/features", &self.parameters(&sort, "", &columns, &per_page));
            let head = tag("a").attr("href", address).attr("title", field.hint()).text(field.title());
            let order = if self.order[0].descending { "descending" } else { "ascending" };
            let sorted = (self.order[0].field == *field).then_some(order);
            let is_number = !matches!(field, Field::Class | Field::Label);
            Column { head, is_number, sorted }
        });
        let heads: Vec<Column> = heads.collect();
        let rows = self.features.iter().zip(&self.cells).map(|(line, cells)| {
            let cells = self.columns.iter().zip(cells).map(|(field, text)| match field {
                Field::Feature => shell.feature(line.feature),
                Field::Label => {
                    let star = line.star.then(|| tag("span").attr("title", "has a star").text("\u{2605} "));
                    let name = tag("span").maybe("class", line.label.is_none().then_some("muted")).text(text);
                    Markup::from(star).and(name)
                }
                _ => Markup::text(text),
            });
            cells.collect()
        });
        let caption = if self.found == self.total {
            counted(self.total as u64, "feature")
        } else {
            format!("{} of {} found", counted(self.found as u64, "feature"), count(self.total as u64))
        };
        table(&caption, &heads, rows)
    }

    fn pages(&self, shell: &Shell) -> Markup {
        if self.pages == 1 {
            return Markup::new();
        }
        let (columns, per_page) = (self.column_names(), self.rows_of_a_part());
        let link = |page: usize, name: &str, relation: &'static str| {
            let address = shell.to("/features", &self.parameters(&self.sort, &page.to_string(), &columns, &per_page));
            tag("a").attr("href", address).attr("rel", relation).text(name)
        };
        let before = (self.page > 1).then(|| link(self.page - 1, "Previous", "prev"));
        let after = (self.page < self.pages).then(|| link(self.page + 1, "Next", "next"));
        let here = tag("span").text(&format!("{} of {}", count(self.page as u64), count(self.pages as u64)));
        let parts = [before, Some(here), after].into_iter().flatten();
        tag("nav").class("pages").attr("aria-label", "Parts of the table").of(Markup::joined(parts, " "))
    }
}
