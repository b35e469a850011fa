//! The run behind the pages: its tables as they are on disk now, read again when they have changed. Writes labels and nothing else.

use super::activations::Activations;
use super::guard::Token;
use super::problem::Problem;
use super::ranking::Ranking;
use super::watched::Watched;
use crate::caption_search::CaptionSearch;
use crate::feature_table::{Annotations, FeatureList, PositionCounts, TypicalWords};
use crate::provenance;
use crate::sample_images::SampleImages;
use crate::{Error, Result};
use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{DataType, Float64Type};
use filters::column::ScoreTable;
use filters::keep::{self, ScoreMetadata};
use sae_core::analysis::contrast::{TestTable, read_features};
use sae_core::analysis::dashboard::Source;
use sae_core::analysis::index::{Index, Row, TypicalWord, read_lists};
use sae_core::analysis::labels::{Change, Labels, Saved};
use sae_core::device::DeviceChoice;
use sae_core::store::run::check_name;
use sae_core::store::sample::Sample;
use sae_core::store::{Paths, STEP, SampleLookup, Store, StoreRecord, load_ids, load_samples};
use sae_core::table::ByRow;
use sae_core::{Run, file};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a JSON file at most.
const LIMIT: u64 = 1 << 26;
/// Rankings that are kept: a million samples take 12 MB in each.
const RANKINGS: usize = 24;
/// Contrasts that are kept.
const CONTRASTS: usize = 4;
/// The most samples whose captions are searched: all of them have to be in memory for that.
const CAPTIONS: u32 = 100_000;

/// A run that is looked at.
pub struct Site {
    /// The run.
    pub run: Run,
    /// What everybody who asks has to know.
    pub token: Token,
    /// Where the pictures of samples are.
    pub images: SampleImages,
    /// The autoencoder, if one was named.
    asked: Option<String>,
    device: DeviceChoice,
    tables: Watched<FeatureTable>,
    captions: Watched<Captions>,
    lookups: Watched<SampleLookup>,
    labels: Watched<Labels>,
    ids: Watched<StringArray>,
    rankings: Watched<Ranking>,
    contrasts: Watched<Contrast>,
    activations: Watched<Activations>,
    records: Watched<RunRecord>,
}

/// The feature index of an autoencoder.
pub struct FeatureTable {
    /// Where the features are from.
    pub source: Source,
    /// The tables that are read feature by feature.
    pub index: Index,
    list: Mutex<(FeatureList, Option<Arc<Labels>>)>,
}

/// What the captions of the samples in the index are searched in.
struct Captions {
    search: CaptionSearch,
    samples: Vec<Sample>,
    paths: Paths,
}

/// What `run.json` and the manifests say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunRecord {
    /// The program that began the run.
    pub program: String,
    /// When, in UTC.
    pub created: String,
    /// What was done, such as `harvest` and `train/base`.
    pub steps: Vec<String>,
    /// The model; empty if `run.json` does not say.
    pub model: String,
    /// Samples.
    pub samples: u64,
    /// Token positions.
    pub positions: u64,
    /// Finished activations.
    pub hooks: Vec<HookLine>,
}

/// What an autoencoder of a run has.
#[derive(Clone, Debug, Serialize)]
pub struct SaeLine {
    /// Its name.
    pub name: String,
    /// Whether its training is finished.
    pub trained: bool,
    /// Whether it has a feature index.
    pub indexed: bool,
    /// Whether it has scores.
    pub scored: bool,
    /// Its latest evaluation: what `eval.json` says.
    pub evaluation: Option<Value>,
}

/// The activations of a hook.
#[derive(Clone, Debug, Serialize)]
pub struct HookLine {
    /// The hook.
    pub hook: String,
    /// Token positions.
    pub positions: u64,
    /// Width.
    pub d_in: usize,
    /// How values are stored.
    pub dtype: String,
}

/// The files of a contrast.
pub struct Contrast {
    /// `contrast.json`.
    pub summary: Value,
    /// The tests of features; nothing for a contrast between models.
    pub tests: Option<TestTable>,
    /// The rows of the tests, those of features that differ first, then by `|z|`.
    pub order: Vec<usize>,
}

impl Site {
    /// Looks at a run. `sae` is the autoencoder; if nothing, the first one that has an index.
    ///
    /// # Errors
    /// It is no run, it has no autoencoder of this name, or the system has no random numbers for the token.
    pub fn new(run: &Path, sae: Option<String>, device: DeviceChoice) -> Result<Self> {
        let run = Run::open(run)?;
        if let Some(name) = &sae {
            check_name(name)?;
            let available = names(&run);
            if !available.contains(name) {
                return Err(Error::Unknown { kind: crate::roles::Kind::Autoencoder, asked: name.clone(), available });
            }
        }
        let token = Token::new().map_err(|source| Error::NoToken { source })?;
        let images = SampleImages::new(&run, None);
        Ok(Self {
            run,
            token,
            images,
            asked: sae,
            device,
            tables: Watched::new(1),
            captions: Watched::new(1),
            lookups: Watched::new(1),
            labels: Watched::new(1),
            ids: Watched::new(1),
            rankings: Watched::new(RANKINGS),
            contrasts: Watched::new(CONTRASTS),
            activations: Watched::new(1),
            records: Watched::new(1),
        })
    }

    /// The autoencoder that is looked at.
    ///
    /// # Errors
    /// The run has none yet.
    pub fn sae(&self) -> Result<String, Problem> {
        let available = names(&self.run);
        let indexed = |name: &&String| self.run.features(name).join("features.parquet").is_file();
        let chosen = self.asked.as_ref().or_else(|| available.iter().find(indexed)).or(available.first()).cloned();
        chosen.ok_or_else(|| Problem::unavailable("This run has no autoencoder yet: `sae train` makes one."))
    }

    /// The feature index.
    ///
    /// # Errors
    /// There is none, or it cannot be read, perhaps because it is being written.
    pub fn table(&self) -> Result<Arc<FeatureTable>, Problem> {
        let sae = self.sae()?;
        let folder = self.run.features(&sae);
        let mut files = files_in(&folder);
        if files.is_empty() {
            return Err(Problem::unavailable(format!(
                "There is no feature index of {sae} yet: `sae index` makes one."
            )));
        }
        files.push(self.record());
        self.tables.get(&sae, &files, || FeatureTable::read(&self.run, &sae))
    }

    /// Does something with the list of features, with what people have written by now.
    ///
    /// # Errors
    /// See [`Site::labels`].
    pub fn with_list<T>(
        &self,
        table: &FeatureTable,
        search: &str,
        take: impl FnOnce(&mut FeatureList) -> T,
    ) -> Result<T, Problem> {
        let labels = self.labels()?;
        let mut guard = table.list.lock().unwrap_or_else(PoisonError::into_inner);
        let (list, known) = &mut *guard;
        if !known.as_ref().is_some_and(|known| Arc::ptr_eq(known, &labels)) {
            list.set_annotations(Annotations::new(labels.written(&table.source.sae)));
            *known = Some(labels);
        }
        list.search_with(search, |text| {
            let captions = self.captions(table).map_err(|problem| problem.to_string())?;
            Ok(captions.search.shares(&captions.samples, &captions.paths, text))
        });
        Ok(take(list))
    }

    fn captions(&self, table: &FeatureTable) -> Result<Arc<Captions>, Problem> {
        let samples = self.lookup()?.samples();
        if samples > CAPTIONS {
            return Err(Problem::unavailable(format!(
                "Captions are not searched in the browser, because the run has more than {CAPTIONS} samples."
            )));
        }
        let (sae, features) = (&table.source.sae, table.index.features().len());
        let mut files = files_in(&self.run.features(sae));
        files.push(self.run.samples());
        self.captions.get(sae, &files, || {
            let search = CaptionSearch::open(&self.run, sae, features)?;
            let samples = load_samples(&self.run)?;
            let damaged = |error| sae_core::Error::format(&self.run.samples())(error);
            let paths = Paths::from_samples(&samples).map_err(damaged)?;
            Ok(Captions { search, samples, paths })
        })
    }

    /// The samples and their tokens.
    ///
    /// # Errors
    /// The harvest is not finished, or a table is damaged.
    pub fn lookup(&self) -> Result<Arc<SampleLookup>, Problem> {
        if !self.run.samples().is_file() {
            return Err(Problem::unavailable("The harvest is not finished: there is no samples.parquet yet."));
        }
        self.lookups.get("", &[self.run.samples(), self.record()], || Ok(SampleLookup::open(&self.run)?))
    }

    /// What people wrote.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn labels(&self) -> Result<Arc<Labels>, Problem> {
        self.labels.get("", &[self.run.labels()], || Ok(Labels::read(&self.run)?))
    }

    /// Makes changes of what is written, on top of what others wrote.
    ///
    /// # Errors
    /// The file cannot be written, or belongs to a newer program.
    pub fn save(&self, sae: &str, changes: &[Change]) -> Result<Saved, Problem> {
        // A file that has become unreadable is moved aside, and what was known of it takes its place.
        let known = self.labels().unwrap_or_default();
        Labels::save(&self.run, sae, changes, &known).map_err(|error| {
            let is_busy = matches!(error, sae_core::Error::Busy { .. });
            let problem = Problem::from(error);
            if is_busy { problem } else { Problem::failed(format!("The label was not saved: {problem}")) }
        })
    }

    /// The names of the columns of scores.
    ///
    /// # Errors
    /// There are no scores, or the table cannot be read.
    pub fn score_names(&self, sae: &str) -> Result<Vec<String>, Problem> {
        let path = self.run.scores(sae);
        if !path.is_file() {
            return Err(Problem::unavailable(format!("There are no scores of {sae} yet: `sae score` makes them.")));
        }
        Ok(ScoreTable::names_in(&path)?)
    }

    /// The samples ranked by a score.
    ///
    /// # Errors
    /// There is no such column, or it is of other samples.
    pub fn ranking(&self, sae: &str, column: &str) -> Result<Arc<Ranking>, Problem> {
        let path = self.run.scores(sae);
        let files = [path.clone(), keep::beside(&path), self.run.samples()];
        self.rankings.get(&format!("{sae}/{column}"), &files, || {
            let ids = self.ids.get("", &[self.run.samples()], || Ok(load_ids(&self.run)?))?;
            let ids: Vec<&str> = (0..ids.len()).map(|n| ids.value(n)).collect();
            let values = ScoreTable::open_columns(&path, &ids, &[column])?.column(column)?;
            // Estimates explain the scores; without them the scores can be used as well.
            let metadata: ScoreMetadata = file::read_json(&keep::beside(&path), LIMIT).unwrap_or_default();
            let estimate = metadata.keep.get(column).copied();
            Ok(Ranking::new(&values, &ids, estimate))
        })
    }

    /// The scores of a sample by column; nothing if there are none, or if the table has its rows in another order.
    pub fn scores_of(&self, sae: &str, sample: u32, id: &str) -> BTreeMap<String, Option<f64>> {
        let path = self.run.scores(sae);
        let read = || -> Result<_, Problem> {
            let names = self.score_names(sae)?;
            let row = sample as usize;
            let batch = ByRow::open(&path)?.rows(row..row + 1)?;
            let ids = sae_core::table::cast(&path, &batch, "id", &DataType::Utf8)?;
            if ids.as_string_opt::<i32>().is_none_or(|ids| ids.iter().next().flatten() != Some(id)) {
                return Ok(BTreeMap::new());
            }
            let score = |name: String| -> Result<_, Problem> {
                let values = sae_core::table::cast(&path, &batch, &name, &DataType::Float64)?;
                let value = values.as_primitive_opt::<Float64Type>().and_then(|values| values.iter().next().flatten());
                Ok((name, value.filter(|value| !value.is_nan())))
            };
            names.into_iter().map(score).collect()
        };
        read().unwrap_or_default()
    }

    /// What `run.json` and the manifests say.
    ///
    /// # Errors
    /// `run.json` cannot be read.
    pub fn run_record(&self) -> Result<Arc<RunRecord>, Problem> {
        let hooks = self.run.list("activations");
        let manifests = hooks.iter().map(|hook| self.run.activations(hook).join("manifest.json"));
        let files: Vec<PathBuf> = manifests.chain([self.record()]).collect();
        self.records.get("", &files, || RunRecord::read(&self.run, &hooks))
    }

    /// The autoencoders of the run.
    pub fn saes(&self) -> Vec<String> {
        names(&self.run)
    }

    /// What an autoencoder has.
    pub fn sae_line(&self, name: String) -> SaeLine {
        SaeLine {
            trained: self.run.saes().contains(&name),
            indexed: self.run.features(&name).join("features.parquet").is_file(),
            scored: self.run.scores(&name).is_file(),
            evaluation: file::read_json(&self.run.sae_dir(&name).join("eval.json"), LIMIT).ok(),
            name,
        }
    }

    /// The names of the contrasts.
    pub fn contrasts(&self) -> Vec<String> {
        let exists = |name: &String| self.contrast_folder(name).join("contrast.json").is_file();
        self.run.list("contrasts").into_iter().filter(exists).collect()
    }

    /// A contrast.
    ///
    /// # Errors
    /// There is none of this name, or it cannot be read.
    pub fn contrast(&self, name: &str) -> Result<Arc<Contrast>, Problem> {
        check_name(name).map_err(|error| Problem::invalid(error.message()))?;
        let available = self.contrasts();
        if !available.iter().any(|known| known == name) {
            let known =
                if available.is_empty() { "it has none".into() } else { format!("it has {}", available.join(", ")) };
            return Err(Problem::not_found(format!("The run has no contrast {name}; {known}.")));
        }
        let folder = self.contrast_folder(name);
        self.contrasts.get(name, &files_in(&folder), || Contrast::read(&folder))
    }

    fn contrast_folder(&self, name: &str) -> PathBuf {
        self.run.root().join("contrasts").join(name)
    }

    /// The thread that computes activations.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn activations(&self, sae: &str) -> Result<Arc<Activations>, Problem> {
        let files = [self.run.sae_dir(sae).join("sae_weights.safetensors"), self.run.samples()];
        self.activations.get(sae, &files, || Activations::start(&self.run, sae, self.device))
    }

    fn record(&self) -> PathBuf {
        self.run.root().join("run.json")
    }

    /// Reads what the first pages will need, so that they come at once. What cannot be read is a sentence on its page.
    pub fn warm(&self) {
        let Ok(sae) = self.sae() else { return };
        let table = self.table().and_then(|table| self.with_list(&table, "", |list| list.len()));
        let samples = self.lookup().and_then(|lookup| Ok(lookup.sample(0)?));
        let ranked = self
            .score_names(&sae)
            .map(|names| names.iter().take(RANKINGS).filter(|name| self.ranking(&sae, name).is_ok()).count());
        let _ = (table, samples, ranked);
    }
}

impl RunRecord {
    fn read(run: &Run, hooks: &[String]) -> Result<Self, Problem> {
        let record = run.record()?;
        let harvest: Option<StoreRecord> = run.read_step(STEP).ok().flatten();
        let progress = harvest.as_ref().map(StoreRecord::progress).unwrap_or_default();
        let hook = |hook: &String| {
            let store = Store::open_with_pieces(run, hook).ok()?;
            let manifest = store.manifest();
            let dtype = serde_json::to_value(manifest.dtype).ok()?.as_str()?.to_owned();
            Some(HookLine { hook: hook.clone(), positions: manifest.rows, d_in: manifest.d_in, dtype })
        };
        Ok(Self {
            program: record.program,
            created: record.created,
            steps: record.steps.keys().cloned().collect(),
            model: harvest.map(|harvest| harvest.spec.model).unwrap_or_default(),
            samples: progress.samples,
            positions: progress.rows,
            hooks: hooks.iter().filter_map(hook).collect(),
        })
    }
}

/// The autoencoders of a run, and those whose index alone is there.
fn names(run: &Run) -> Vec<String> {
    let (mut names, indexed) = (run.saes(), run.list("features"));
    names.extend(run.unfinished_saes());
    let others: Vec<String> = indexed.into_iter().filter(|name| !names.contains(name)).collect();
    names.extend(others);
    names
}

/// The tables in a folder, in the order of their names.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_table = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "parquet" || ending == "json");
    let mut files: Vec<PathBuf> = entries.filter(is_table).collect();
    files.sort();
    files
}

impl FeatureTable {
    fn read(run: &Run, sae: &str) -> Result<Self, Problem> {
        let folder = run.features(sae);
        let index = Index::open(&folder).map_err(|source| Error::NoIndex { source })?;
        let step: Option<Value> = run.read_step(&format!("index/{sae}"))?;
        let positions = step.as_ref().and_then(positions).unwrap_or_default();
        let words = folder.join(TypicalWord::FILE);
        let words = if words.is_file() { read_lists(&words, index.features().len())? } else { Vec::new() };
        let words = words.iter().map(|rows: &Vec<TypicalWord>| TypicalWords::new(rows)).collect();
        let list = FeatureList::new(index.features().to_vec(), positions, words);
        Ok(Self { source: source(run, sae)?, index, list: Mutex::new((list, None)) })
    }
}

/// Where the features of an autoencoder are from. An index can be looked at without its activations.
fn source(run: &Run, sae: &str) -> Result<Source, Problem> {
    let hook = |step: String| {
        let entry: Option<Value> = run.read_step(&step).ok().flatten();
        Some(entry?.get("hook")?.as_str()?.to_owned())
    };
    let hook = ["train", "import"].into_iter().find_map(|step| hook(format!("{step}/{sae}")));
    let hook = hook.or_else(|| run.list("activations").into_iter().next());
    match hook.and_then(|hook| Store::open_with_pieces(run, &hook).ok()) {
        Some(store) => Ok(provenance::source(run, store.manifest(), sae)?),
        None => Ok(Source { sae: sae.to_owned(), ..Source::default() }),
    }
}

fn positions(step: &Value) -> Option<PositionCounts> {
    let counts: Vec<u64> = step.get("positions")?.as_array()?.iter().filter_map(Value::as_u64).collect();
    let [all, text, image] = counts[..] else { return None };
    let sides = step.get("sides").and_then(Value::as_str).and_then(|sides| sides.parse().ok()).unwrap_or_default();
    Some(PositionCounts { all, text, image, sides })
}

impl Contrast {
    fn read(folder: &Path) -> Result<Self, Problem> {
        let summary: Value = file::read_json(&folder.join("contrast.json"), LIMIT)?;
        // A folder may have tables of an earlier contrast of that name: what was written last says which ones count.
        let is_of_models = summary.get("models").is_some_and(Value::is_array);
        let tests = if is_of_models { None } else { Some(read_features(&folder.join("features.parquet"))?) };
        let rows = tests.as_ref().map(|tests| &tests.rows[..]).unwrap_or_default();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let strength = |row: &usize| rows[*row].z.abs();
        order.sort_by(|a, b| {
            let differ = rows[*b].differs().cmp(&rows[*a].differs());
            differ.then(strength(b).total_cmp(&strength(a))).then(a.cmp(b))
        });
        Ok(Self { summary, tests, order })
    }
}
