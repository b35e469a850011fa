//! A checkpoint folder as a whole: configuration, tokenizer, template, image processor and weights; and how a row of
//! data becomes a sample for its model. Decides which rows are skipped and why.

use crate::action::ActionStatistics;
use crate::data::lerobot;
use crate::data::{Action, ImageFile, Record, Row, RowError, Turn, TurnPart, Video};
use crate::identity::{hex, sample_id};
use crate::model::config::{ImageTokens, VideoTiming};
use crate::model::{Compute, ImageLayout, Input, Model, ModelConfig, Moment, Weights, check_input};
use crate::pixels::{Frame, ImageProcessor, VideoProcessor};
use crate::prepared::Prepared;
use crate::prompt::{FramePatch, Media, Prompter, Text};
use crate::{Result, precedence};
use sae_core::error::{Hint, Setting};
use sae_core::store::sample::{ImageRef, Modality, Role, Sample, Token};
use sae_core::store::{Hook, Skipped};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Which answers of a conversation are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answers {
    /// All answers; of two alternatives the preferred one.
    #[default]
    All,
    /// All answers but the last, in whose place the model would begin to answer. The rows need none.
    None,
    /// The preferred one of two alternatives.
    Chosen,
    /// The rejected one of two alternatives.
    Rejected,
}

impl FromStr for Answers {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            "chosen" => Ok(Self::Chosen),
            "rejected" => Ok(Self::Rejected),
            _ => Err(format!("invalid answers {name:?}: expected all, none, chosen or rejected")),
        }
    }
}

/// Whether conversations are rendered with the chat template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Templating {
    /// Use the checkpoint's own template, if it has one.
    #[default]
    Auto,
    /// Give the field `text` to the tokenizer unchanged.
    None,
}

impl FromStr for Templating {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            _ => Err(format!("invalid template {name:?}: expected auto or none")),
        }
    }
}

/// An open checkpoint, ready to turn rows into samples. Its weights are loaded only by [`Checkpoint::load`].
///
/// ```no_run
/// use harvest::Checkpoint;
///
/// let checkpoint = Checkpoint::open("checkpoints/llava".as_ref())?;
/// let text = &checkpoint.config().text;
/// println!("{} decoder blocks, {} wide", text.layers.len(), text.hidden_size);
/// # Ok::<(), harvest::Error>(())
/// ```
pub struct Checkpoint {
    folder: PathBuf,
    config: ModelConfig,
    prompter: Prompter,
    images: Option<ImageProcessor>,
    /// The video processor, or why there is none.
    videos: Result<VideoProcessor, String>,
    actions: Actions,
}

/// What turns actions into tokens.
enum Actions {
    /// Statistics that the checkpoint does not have itself.
    Given(ActionStatistics),
    /// The statistics of the checkpoint.
    Own(ActionStatistics),
    /// There are none, for this reason.
    Unknown(RowError),
}

/// The images or the video of a row: the content of the files, and what the model reads of them.
pub(crate) struct MediaFiles<'r> {
    pub files: Vec<Cow<'r, [u8]>>,
    pub frames: Vec<Frame>,
    /// How the frames of a video stand in the text.
    patches: Option<Vec<FramePatch>>,
    pub is_video: bool,
}

/// What of the images or of the video of a row a text shows.
pub(crate) struct Shown<'m> {
    pub frames: Vec<&'m Frame>,
    pub patches: Option<&'m [FramePatch]>,
}

impl MediaFiles<'_> {
    /// All of them.
    pub fn all(&self) -> Shown<'_> {
        Shown { frames: self.frames.iter().collect(), patches: self.patches.as_deref() }
    }

    /// The images with these numbers, or the video.
    pub fn only(&self, images: &[usize]) -> Shown<'_> {
        if self.is_video {
            return self.all();
        }
        Shown { frames: images.iter().filter_map(|image| self.frames.get(*image)).collect(), patches: None }
    }

    /// The images of a row, or the frames of its video, as they are stored.
    pub fn refs(&self, record: &Record) -> Vec<ImageRef> {
        // All frames of a video have one size.
        let last = self.frames.last().into_iter().cycle().filter(|_| self.is_video);
        let files = record.images.iter().zip(&self.files).zip(self.frames.iter().chain(last));
        let image = |((image, file), frame): ((&ImageFile, &Cow<'_, [u8]>), &Frame)| ImageRef {
            path: image.path.clone(),
            width: frame.width,
            height: frame.height,
            sha256: hex(Sha256::digest(file)),
        };
        files.map(image).collect()
    }
}

/// A sample with the content of its image files.
type WithFiles<'r> = (Prepared, Vec<Cow<'r, [u8]>>);

impl Checkpoint {
    /// Opens the checkpoint in `folder`.
    ///
    /// # Errors
    /// A file is missing or damaged, or the model or its image processor is of a kind that is not supported.
    pub fn open(folder: &Path) -> Result<Self> {
        precedence::check(folder)?;
        let config = ModelConfig::open(folder)?;
        let vision = config.vision.as_ref();
        Ok(Self {
            folder: folder.to_path_buf(),
            prompter: Prompter::open(folder, vision)?,
            images: vision.map(|vision| ImageProcessor::open(folder, vision)).transpose()?,
            videos: VideoProcessor::open(folder, vision),
            config,
            actions: Actions::Unknown(
                RowError::from("the row has an action in numbers, but there are no statistics that make tokens of it")
                    .with_hint(Hint::Set(Setting::ActionStatistics, Vec::new())),
            ),
        })
    }

    /// The same checkpoint with these statistics of actions.
    #[must_use]
    pub fn with_actions(self, statistics: ActionStatistics) -> Self {
        Self { actions: Actions::Given(statistics), ..self }
    }

    /// The same checkpoint with its own statistics of actions (`norm_stats` in `config.json`), else with those of the data
    /// set (`meta/stats.json` of LeRobot). `name` says which of several are meant. Where there are none, rows that need
    /// them are skipped.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn with_actions_of(self, data: &Path, name: Option<&str>) -> Result<Self> {
        let path = self.folder.join(precedence::CONFIG);
        let config = sae_core::file::read_json(&path, 1 << 24)?;
        let actions = match ActionStatistics::of_checkpoint(&config, name) {
            Ok(Some(own)) => Actions::Own(own),
            Err(reason) => Actions::Unknown(reason),
            Ok(None) => match lerobot::root_of(data).map(|root| root.join("meta/stats.json")) {
                Some(path) if path.is_file() => Actions::Given(ActionStatistics::open(&path, name)?),
                _ => return Ok(self),
            },
        };
        Ok(Self { actions, ..self })
    }

    /// The statistics of actions, if they are not the checkpoint's own.
    pub(crate) fn given_actions(&self) -> Option<&ActionStatistics> {
        match &self.actions {
            Actions::Given(statistics) => Some(statistics),
            Actions::Own(_) | Actions::Unknown(_) => None,
        }
    }

    /// The folder of the checkpoint.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The configuration of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The image processor, if the model takes images.
    pub fn images(&self) -> Option<&ImageProcessor> {
        self.images.as_ref()
    }

    /// The video processor.
    ///
    /// # Errors
    /// Why there is none.
    pub fn videos(&self) -> Result<&VideoProcessor, &str> {
        self.videos.as_ref().map_err(String::as_str)
    }

    /// The tokenizer and the chat template.
    pub fn prompter(&self) -> &Prompter {
        &self.prompter
    }

    /// Loads the model up to block `last`, or the whole model ([`Model::load`]).
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load(&self, last: Option<usize>, compute: &Compute) -> Result<Model> {
        let weights = Weights::open(&self.folder)?;
        Model::load(&self.config, &weights, last, compute)
    }

    /// Loads what is needed for the hidden states at a hook.
    ///
    /// # Errors
    /// As for [`Checkpoint::load`].
    pub fn load_to(&self, last: Hook, compute: &Compute) -> Result<Model> {
        Model::load_to(&self.config, &Weights::open(&self.folder)?, last, compute)
    }

    /// The input of the model for a sample.
    pub fn input(&self, prepared: &Prepared) -> Input {
        let image = |frame: &Frame| match (&self.images, &self.videos) {
            (_, Ok(videos)) if prepared.is_video => Some(videos.image(frame)),
            (images, _) => images.as_ref().map(|images| images.image(frame)),
        };
        let images = prepared.frames.iter().filter_map(image).collect();
        let ids = prepared.tokens.iter().map(|token| token.token_id as u32).collect();
        Input { ids, images, prefix: prepared.prefix }
    }

    /// Turns a row into a sample: reads its images, renders its text, and determines the modality, role and place of
    /// every position.
    ///
    /// # Errors
    /// The skipped row, with the reason why it cannot become a sample.
    pub fn prepare(&self, row: Row, answers: Answers, templating: Templating) -> Result<Prepared, Skipped> {
        let Row { number, source, key, record, .. } = row;
        let sample = record.and_then(|record| Ok(self.sample(&record, source, &key, answers, templating)?.0));
        sample.map_err(|error| error.skipped(number, &key))
    }

    /// The same, with the content of the image files. They are read only once, so that the sample and the files agree.
    pub(crate) fn prepare_with_files(
        &self,
        row: Row,
        answers: Answers,
        templating: Templating,
    ) -> Result<(Prepared, Vec<Vec<u8>>), Skipped> {
        let Row { number, source, key, record, .. } = row;
        let sample = record.and_then(|record| {
            let (prepared, files) = self.sample(&record, source, &key, answers, templating)?;
            Ok((prepared, files.into_iter().map(Cow::into_owned).collect()))
        });
        sample.map_err(|error| error.skipped(number, &key))
    }

    fn sample<'r>(
        &self,
        record: &'r Record,
        source: String,
        key: &str,
        answers: Answers,
        templating: Templating,
    ) -> Result<WithFiles<'r>, RowError> {
        let (mut turns, generate) = conversation(record, answers)?;
        let image_tokens = self.config.vision.as_ref().map(|vision| vision.image_tokens);
        if record.action.is_some() && image_tokens == Some(ImageTokens::Prismatic) {
            ask_for_action(turns.to_mut());
        }
        let action = record.action.as_ref().filter(|_| answers != Answers::None);
        let action = action.map(|action| self.action_ids(action)).transpose()?.unwrap_or_default();
        let (prompt, text) = match templating {
            Templating::Auto => {
                let texts: Vec<_> = turns.iter().map(Turn::text).collect();
                (Text::Conversation { turns: &turns, generate }, texts.join("\n"))
            }
            Templating::None => {
                let text = record.verbatim.as_deref().ok_or_else(|| {
                    RowError::from("the row has no field text")
                        .with_hint(Hint::MapField { field: "text".into(), column: None })
                })?;
                (Text::Verbatim(text), text.to_owned())
            }
        };
        // An image alone can be answered.
        let is_asked = answers == Answers::None && !record.images.is_empty();
        if text.trim().is_empty() && !is_asked {
            return Err("the text is empty".into());
        }
        let media = self.media(record)?;
        let tokens = self.tokens(&prompt, &media.all(), action)?;
        let id = sample_id(record, &media.files);
        let meta = meta(record, answers);
        let sample = Sample { id, key: key.to_owned(), text, images: media.refs(record), source, meta, piece: None };
        let MediaFiles { files, frames, is_video, .. } = media;
        let prefix = self.prompter.prefix(&tokens);
        Ok((Prepared { sample, tokens, frames, is_video, prefix }, files))
    }

    /// Reads the images or the video of a row.
    pub(crate) fn media<'r>(&self, record: &'r Record) -> Result<MediaFiles<'r>, RowError> {
        let files = record.images.iter().map(|image| image.read()).collect::<Result<Vec<_>, _>>()?;
        let (frames, patches) = match record.video {
            Some(video) => self.video(video, &files).map(|(frames, patches)| (frames, Some(patches)))?,
            None => {
                let frames = self.images.as_ref().map(|images| images.frames(&files, self.config.text.context));
                (frames.transpose()?.unwrap_or_default(), None)
            }
        };
        if self.images.is_none() && !files.is_empty() {
            return Err("the row has images, but the model takes none".into());
        }
        Ok(MediaFiles { files, frames, patches, is_video: record.video.is_some() })
    }

    /// The tokens of a text with its images or its video, followed by those of an action.
    pub(crate) fn tokens(&self, prompt: &Text, media: &Shown, action: Vec<u32>) -> Result<Vec<Token>, RowError> {
        let Shown { frames, patches } = media;
        let positions: Vec<usize> = frames.iter().map(|frame| frame.positions.len()).collect();
        let layouts: Vec<ImageLayout> = frames.iter().map(|frame| frame.layout()).collect();
        let media = patches.map_or(Media::Images(&layouts), Media::Video);
        // Before they are written into the text.
        self.check_length(positions.iter().sum(), "positions of images")?;
        let mut tokens = self.prompter.tokens(prompt, media)?;
        let start = tokens.len() as u32;
        tokens.extend(action.into_iter().zip(start..).map(|(id, position)| Token {
            position,
            modality: Modality::Action,
            token_id: id as i32,
            piece: self.prompter.token_text(id),
            role: Role::Assistant,
            special: false,
            image: None,
            rect: None,
        }));
        self.check_length(tokens.len(), "tokens")?;
        let ids: Vec<u32> = tokens.iter().map(|token| token.token_id as u32).collect();
        check_input(&self.config, &ids, &positions, |id| format!("{id} ({})", self.prompter.token_name(id)))?;
        let places = frames.iter().flat_map(|frame| &frame.positions);
        for (token, place) in tokens.iter_mut().filter(|token| token.image.is_some()).zip(places) {
            (token.rect, token.special) = (Some(place.rect), place.special);
        }
        Ok(tokens)
    }

    /// Rejects a row that is longer than the model's context.
    fn check_length(&self, count: usize, what: &str) -> Result<(), String> {
        let context = self.config.text.context;
        if count > context {
            return Err(format!("the row has {count} {what}, more than the model's context of {context}"));
        }
        Ok(())
    }

    /// The frames of a video as the vision tower reads them, and how they stand in the text. Each patch has a few consecutive
    /// frames.
    ///
    /// # Errors
    /// The model takes no videos, or not these frames.
    pub fn video(&self, video: Video, files: &[impl AsRef<[u8]>]) -> Result<(Vec<Frame>, Vec<FramePatch>), RowError> {
        let processor = self.videos().map_err(|reason| format!("the row has a video, but {reason}"))?;
        if i16::try_from(files.len()).is_err() {
            return Err(format!("the video has {} frames: at most {} can be stored", files.len(), i16::MAX).into());
        }
        let mut frames = processor.frames(files, self.config.text.context).map_err(|error| error.to_string())?;
        let (per_patch, rate) = (processor.frames_per_patch(), video.rate());
        let timing = self.config.vision.as_ref().and_then(|vision| vision.video).map(|video| video.timing);
        if let Some(VideoTiming::Axis { tokens_per_second }) = timing {
            // The reference implementation computes in f32, and rounds down.
            let interval = tokens_per_second as f32 * (per_patch as f64 / rate) as f32;
            let at =
                |(number, frame): (u32, Frame)| frame.at(Moment { number, time: (number as f32 * interval) as u32 });
            frames = (0..).zip(frames).map(at).collect();
        }
        let seconds = |frame: usize| frame.min(files.len() - 1) as f64 / rate;
        let patch = |(n, shown): (usize, &Frame)| {
            let frame = n * per_patch;
            let seconds = (seconds(frame) + seconds(frame + per_patch - 1)) / 2.0;
            FramePatch { positions: shown.positions.len(), frame, seconds }
        };
        let patches = frames.iter().enumerate().map(patch).collect();
        Ok((frames, patches))
    }
}

impl Checkpoint {
    /// The ids of an action. The last ids of the vocabulary without added tokens stand for bins.
    fn action_ids(&self, action: &Action) -> Result<Vec<u32>, RowError> {
        let values = match action {
            Action::Ids(ids) => {
                let image = self.config.vision.as_ref().map(|vision| vision.image_token_id);
                return match ids.iter().find(|id| Some(**id) == image) {
                    Some(id) => Err(format!("the action contains {id}, the placeholder of images").into()),
                    None => Ok(ids.clone()),
                };
            }
            Action::Values(values) => values,
        };
        match &self.actions {
            Actions::Given(statistics) | Actions::Own(statistics) => statistics.ids(values, self.prompter.vocabulary()),
            Actions::Unknown(reason) => Err(reason.clone()),
        }
    }
}

/// Words an instruction as the question that OpenVLA was trained to answer with an action, unless it is one already.
fn ask_for_action(turns: &mut [Turn]) {
    const QUESTION: &str = "What action should the robot take to ";
    let parts = turns.last_mut().map(|turn| turn.parts.as_mut_slice()).unwrap_or_default();
    let texts = parts.iter_mut().filter_map(|part| match part {
        TurnPart::Text(text) => Some(text),
        TurnPart::Image(_) | TurnPart::Video => None,
    });
    for text in texts.take(1).filter(|text| !text.starts_with(QUESTION)) {
        *text = format!("{QUESTION}{}?", text.trim().to_lowercase());
    }
}

/// The turns that the model reads, and whether the beginning of an answer follows them.
pub(crate) fn conversation(record: &Record, answers: Answers) -> Result<(Cow<'_, [Turn]>, bool), RowError> {
    if !record.tree.nodes.is_empty() {
        let hint = Hint::set(Setting::Pieces, "tree");
        return Err(RowError::from("the row is a tree of replies").with_hint(hint));
    }
    if record.unanswered && answers != Answers::None {
        return Err("the row has no answer".into());
    }
    let turns = &record.turns;
    let answered = |answer: &str| {
        let mut turns = turns.clone();
        turns.push(Turn::from_text(Role::Assistant, answer));
        turns
    };
    let pair = record.pair.as_ref();
    let chosen_from = || pair.ok_or("the row has no chosen and rejected answer");
    let (turns, generate) = match answers {
        Answers::Chosen => (answered(&chosen_from()?.chosen).into(), false),
        Answers::Rejected => (answered(&chosen_from()?.rejected).into(), false),
        Answers::All | Answers::None if record.action.is_some() => (Cow::Borrowed(&turns[..]), true),
        Answers::All => (pair.map_or(Cow::Borrowed(&turns[..]), |pair| answered(&pair.chosen).into()), false),
        Answers::None if pair.is_some() => (Cow::Borrowed(&turns[..]), true),
        Answers::None => {
            let is_answered = turns.last().is_some_and(|turn| turn.role == Role::Assistant);
            (Cow::Borrowed(&turns[..turns.len() - usize::from(is_answered)]), true)
        }
    };
    let is_silent = |turn: &Turn| turn.role == Role::Assistant && turn.text().trim().is_empty();
    match turns.iter().position(is_silent) {
        Some(turn) => Err(format!("the text is empty: the answer in turn {} has no text", turn + 1).into()),
        None if turns.is_empty() => Err("the row has no turns except the answer".into()),
        None => Ok((turns, generate)),
    }
}

/// The other columns of the row, and what they say about the answer that the model reads, as `answer`.
fn meta(record: &Record, answers: Answers) -> Value {
    let mut meta = record.meta.clone();
    let about = match answers {
        Answers::All | Answers::Chosen => &record.about_answers[0],
        Answers::Rejected => &record.about_answers[1],
        Answers::None => return meta,
    };
    if let Some(meta) = meta.as_object_mut().filter(|_| !about.is_empty()) {
        meta.entry("answer").or_insert_with(|| Value::Object(about.clone()));
    }
    meta
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::AnswerPair;
    use serde_json::{Map, json};

    fn record(pair: Option<AnswerPair>) -> Record {
        let question = Turn { role: Role::User, parts: vec![TurnPart::Image(0), TurnPart::Text("q".into())] };
        Record {
            turns: vec![question],
            pair,
            unanswered: false,
            about_answers: Default::default(),
            unattributed: false,
            tree: Default::default(),
            verbatim: None,
            action: None,
            images: Vec::new(),
            video: None,
            meta: Value::Null,
        }
    }

    #[test]
    fn answers_are_selected_from_a_preference_pair() {
        let pair = record(Some(AnswerPair { chosen: "yes".into(), rejected: "no".into() }));
        let last = |answers| {
            let (turns, generate) = conversation(&pair, answers).unwrap();
            (turns.last().unwrap().text(), generate)
        };
        assert_eq!(last(Answers::All), ("yes".into(), false));
        assert_eq!(last(Answers::Rejected), ("no".into(), false));
        assert_eq!(last(Answers::None), ("q".into(), true));
        assert!(conversation(&record(None), Answers::Chosen).unwrap_err().cause.contains("no chosen"));
        let unanswered = Record { unanswered: true, ..record(None) };
        let (turns, generate) = conversation(&unanswered, Answers::None).unwrap();
        assert_eq!((turns.len(), generate), (1, true));
        assert!(conversation(&unanswered, Answers::All).unwrap_err().cause.contains("no answer"));
        let silent = record(Some(AnswerPair { chosen: " ".into(), rejected: "no".into() }));
        assert!(conversation(&silent, Answers::All).unwrap_err().cause.contains("empty"));
    }

    #[test]
    fn samples_know_what_the_row_says_about_their_answer() {
        let mut pair = record(Some(AnswerPair { chosen: "yes".into(), rejected: "no".into() }));
        pair.meta = json!({"id": 7});
        pair.about_answers = [2, 3].map(|rate| Map::from_iter([("rate".to_owned(), json!(rate))]));
        assert_eq!(meta(&pair, Answers::All), json!({"id": 7, "answer": {"rate": 2}}));
        assert_eq!(meta(&pair, Answers::Rejected), json!({"id": 7, "answer": {"rate": 3}}));
        assert_eq!(meta(&pair, Answers::None), json!({"id": 7}));
    }
}
