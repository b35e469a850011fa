//! What vLLM's connectors for hidden states write (0.18 to 0.22): a safetensors file for each request, with `hidden_states`
//! `[positions, layers, d_in]` and `token_ids` `[positions]`. Which layers these are, only the settings of vLLM say: its layer `l`
//! is what block `l` reads, so what block `l - 1` has written.

use super::cache::{Cache, Captured, check_finite, file_name, piece_from_id, unknown_token};
use super::request::Import;
use crate::checkpoint::Checkpoint;
use crate::{Error, Result};
use sae_core::error::{Hint, Setting};
use sae_core::store::sample::{Modality, Token};
use sae_core::store::{Hook, StoreDtype};
use sae_core::tensors::{Dtype, Tensors, extend_f32};
use std::path::{Path, PathBuf};

const STATES: &str = "hidden_states";
const IDS: &str = "token_ids";

/// Whether a folder has files of this kind.
pub(super) fn detect(folder: &Path) -> bool {
    let first = files(folder).ok().and_then(|files| files.into_iter().next());
    first.is_some_and(|path| Tensors::open(&path).is_ok_and(|tensors| tensors.shape(STATES).is_some()))
}

pub(super) fn open(import: &Import) -> Result<Cache> {
    let folder = &import.path;
    let files = files(folder)?;
    let first = files.first().ok_or_else(|| {
        let cause = "expected files of hidden states (*.safetensors), found none";
        Error::data(folder)(cause).with_hint(Hint::from("decompress them first if they end in .zst"))
    })?;
    let (sizes, dtype) = RequestFile::open(first, None).map(|request| (request.sizes, request.dtype))?;
    let mut rows = 0;
    for path in &files {
        let request = RequestFile::open(path, Some((sizes, dtype)))?;
        import.check_length(request.positions)?;
        rows += request.positions as u64;
    }
    let (hooks, indices): (Vec<_>, Vec<_>) = chosen(import, sizes.layers)?.into_iter().unzip();
    let checkpoint = import.checkpoint.as_deref().map(Checkpoint::open).transpose()?;
    let model = checkpoint.as_ref().map_or_else(|| "unknown".into(), |checkpoint| file_name(checkpoint.folder()));
    let samples = files.clone().into_iter().map(move |path| {
        let request = RequestFile::open(&path, Some((sizes, dtype)))?;
        let key = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let tokens = request.tokens(checkpoint.as_ref())?;
        let activations = indices.iter().map(|index| request.states(*index)).collect::<Result<_>>()?;
        Ok(Captured { source: format!("{}:0", file_name(&path)), key, tokens, activations })
    });
    let dtype = match dtype {
        Dtype::F16 => StoreDtype::F16,
        Dtype::BF16 => StoreDtype::Bf16,
        _ => StoreDtype::F32,
    };
    Ok(Cache { hooks, d_in: sizes.d_in, dtype, model, files, rows, samples: Box::new(samples) })
}

/// The files of a folder, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("list", folder))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// What to import with its index in a file, ascending.
fn chosen(import: &Import, count: usize) -> Result<Vec<(Hook, usize)>> {
    let wrong = |cause: String, hint: Hint| Err(Error::data(&import.path)(cause).with_hint(hint));
    let asked = Hint::Set(Setting::StateLayers, Vec::new());
    let layers = &import.state_layers;
    if let ([], 1, Some(hook)) = (&layers[..], count, import.hook) {
        return Ok(vec![(hook, 0)]);
    }
    if layers.len() != count {
        let named = layers.len();
        return wrong(format!("the files have the states of {count} layers, but {named} layers are named"), asked);
    }
    let hook = |layer: usize| layer.checked_sub(1).map(Hook::block);
    let mut chosen: Vec<_> = layers.iter().zip(0..).filter_map(|(layer, index)| Some((hook(*layer)?, index))).collect();
    if let Some(wanted) = import.hook {
        chosen.retain(|(hook, _)| *hook == wanted);
    }
    chosen.sort_unstable();
    if chosen.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return wrong(format!("a layer is named twice: {layers:?}"), asked);
    }
    if chosen.is_empty() {
        let cause = match import.hook {
            Some(hook) => {
                format!("{hook} is not among layers {layers:?} of vLLM: expected the layer with the next number")
            }
            None => "expected a layer above 0, since layer 0 of vLLM is what the first block reads".into(),
        };
        return wrong(cause, asked);
    }
    Ok(chosen)
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Sizes {
    layers: usize,
    d_in: usize,
}

/// The file of a request.
struct RequestFile {
    tensors: Tensors,
    positions: usize,
    sizes: Sizes,
    dtype: Dtype,
}

impl RequestFile {
    /// Opens a file, which must have these sizes and this dtype.
    fn open(path: &Path, expected: Option<(Sizes, Dtype)>) -> Result<Self> {
        let tensors = Tensors::open(path)?;
        let wrong = |cause: String| Err(Error::data(path)(cause));
        let (Some(&[positions, layers, d_in]), Some((dtype, _))) = (tensors.shape(STATES), tensors.bytes(STATES))
        else {
            let found = tensors.shape(STATES);
            return wrong(format!("expected {STATES} [positions, layers, d_in], found {found:?}"));
        };
        if ![Dtype::F32, Dtype::F16, Dtype::BF16].contains(&dtype) || positions * layers * d_in == 0 {
            return wrong(format!("{STATES} is {dtype:?} [{positions}, {layers}, {d_in}]: expected f32, f16 or bf16"));
        }
        let sizes = Sizes { layers, d_in };
        if expected.is_some_and(|expected| expected != (sizes, dtype)) {
            return wrong(format!(
                "the file has {layers} layers, {d_in} wide, in {dtype:?}, unlike the files before it"
            ));
        }
        match (tensors.shape(IDS), tensors.bytes(IDS)) {
            // Of a request without token ids, only their embeddings were known.
            (Some(&[ids]), Some((Dtype::I64, _))) if ids == positions || ids == 0 => {}
            (shape, _) => return wrong(format!("expected {IDS} [{positions}] in i64, found {shape:?}")),
        }
        Ok(Self { tensors, positions, sizes, dtype })
    }

    fn tokens(&self, checkpoint: Option<&Checkpoint>) -> Result<Vec<Token>> {
        let bytes = self.tensors.bytes(IDS).map_or(&[][..], |(_, bytes)| bytes);
        let ids = bytes.as_chunks().0.iter().map(|id| i32::try_from(i64::from_le_bytes(*id)));
        let ids: Vec<i32> = ids
            .collect::<Result<_, _>>()
            .map_err(|_| Error::data(self.tensors.path())(format!("{IDS} has an id outside the range of 32 bits")))?;
        let token = |position: usize| {
            let id = ids.get(position).copied().unwrap_or(-1);
            let mut token = unknown_token(position as u32, Modality::Text);
            (token.token_id, token.piece) = (id, piece_from_id(id));
            if let (Some(checkpoint), Ok(id)) = (checkpoint, u32::try_from(id)) {
                let vision = checkpoint.config().vision.as_ref();
                if vision.is_some_and(|vision| vision.is_placeholder(id)) {
                    token.modality = Modality::Image;
                }
                token.special = checkpoint.prompter().is_special(id);
                token.piece = checkpoint.prompter().token_text(id);
            }
            token
        };
        Ok((0..self.positions).map(token).collect())
    }

    /// The states of a layer, `[positions, d_in]`.
    fn states(&self, layer: usize) -> Result<Vec<f32>> {
        let bytes = self.tensors.bytes(STATES).map_or(&[][..], |(_, bytes)| bytes);
        let row = bytes.len() / (self.positions * self.sizes.layers);
        let mut values = Vec::with_capacity(self.positions * self.sizes.d_in);
        for position in bytes.chunks_exact(row * self.sizes.layers) {
            extend_f32(self.dtype, &position[layer * row..(layer + 1) * row], &mut values)
                .ok_or_else(|| Error::data(self.tensors.path())(format!("{STATES} does not hold floats")))?;
        }
        check_finite(self.tensors.path(), 0, self.sizes.d_in, &values)?;
        Ok(values)
    }
}
