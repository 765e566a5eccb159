//! A model's text side: tokens in, vectors out.

use std::path::{Component, Path};

use half::{bf16, f16};
use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use super::{files, pooling};
use crate::api::{Data, Datatype, Error, NamedTensor, Result, Tensor, TensorSpec};
use crate::repository::{Embedding, Pooling};

/// A model's text side.
pub(crate) struct Encoder {
    tokenizer: Tokenizer,
    lower_case: bool,
    prompt: String,
    max_tokens: usize,
    vocabulary: u32,
    pad: u32,
    inputs: Vec<TokenInput>,
    /// The model takes sequences of this length only.
    fixed_length: Option<usize>,
    output: String,
    /// How token vectors become one; `None` where the output has one vector a text already.
    pooling: Option<Pooling>,
    normalize: bool,
    dimension: Option<usize>,
}

/// What a model wants to know of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    Types,
    Positions,
}

#[derive(Debug)]
struct TokenInput {
    name: String,
    role: Role,
    datatype: Datatype,
}

impl Encoder {
    /// Reads the tokenizer and the model's own files in `folder`; `settings` come before them.
    pub(crate) fn load(
        folder: &Path,
        settings: &Embedding,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Self> {
        Self::read(folder, settings, inputs, outputs)
            .map_err(|reason| Error::unavailable(format!("task: embedding: {reason}")))
    }

    fn read(
        folder: &Path,
        settings: &Embedding,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> std::result::Result<Self, String> {
        let said = files::read(folder)?;
        let file = settings.tokenizer.as_deref().unwrap_or("tokenizer.json");
        if !Path::new(file)
            .components()
            .all(|c| matches!(c, Component::Normal(_)))
        {
            return Err(format!(
                "embedding.tokenizer `{file}` must lie in the version's folder"
            ));
        }
        let path = folder.join(file);
        if !path.is_file() {
            return Err(format!(
                "there is no `{file}` beside model.onnx (embedding.tokenizer names another file)"
            ));
        }
        let mut tokenizer =
            Tokenizer::from_file(&path).map_err(|e| format!("`{file}` is no tokenizer: {e}"))?;

        // The file's own truncation and padding are those of its training run.
        let direction = tokenizer
            .get_truncation()
            .map_or(TruncationDirection::Right, |params| params.direction);
        let pad = tokenizer
            .get_padding()
            .map(|padding| padding.pad_id)
            .or_else(|| {
                ["[PAD]", "<pad>", "<|endoftext|>"]
                    .iter()
                    .find_map(|token| tokenizer.token_to_id(token))
            })
            .unwrap_or(0);
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|e| format!("`{file}`: {e}"))?;

        // A model exported for sequences of one length gets them padded to it.
        let fixed_length = inputs
            .iter()
            .filter_map(|spec| spec.shape.get(1))
            .find_map(|&d| usize::try_from(d).ok());
        let inputs: Vec<TokenInput> = inputs
            .iter()
            .map(token_input)
            .collect::<std::result::Result<_, _>>()?;
        if !inputs.iter().any(|input| input.role == Role::Ids) {
            return Err("the model has no input `input_ids`".to_owned());
        }
        let max_tokens = settings
            .max_tokens
            .or(said.max_tokens)
            .into_iter()
            .chain(fixed_length)
            .min()
            .ok_or(
                "neither model.yaml (embedding.maxTokens) nor sentence_bert_config.json (max_seq_length) nor \
                 tokenizer_config.json (model_max_length) says how long a text may be",
            )?;
        let special = tokenizer
            .encode("", true)
            .map_err(|e| format!("`{file}` cannot tokenise: {e}"))?
            .len();
        if max_tokens <= special {
            return Err(format!(
                "embedding.maxTokens is {max_tokens}, and the special tokens alone are {special}"
            ));
        }
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: max_tokens,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
                direction,
            }))
            .map_err(|e| format!("`{file}`: {e}"))?;

        let output = choose_output(settings.output.as_deref(), outputs)?;
        let pooling = match output.shape.len() {
            2 => None,
            3 => Some(settings.pooling.or(said.pooling).ok_or_else(|| {
                format!(
                    "output `{}` has a vector for each token, and neither model.yaml (embedding.pooling) nor \
                     1_Pooling/config.json says how they become one",
                    output.name
                )
            })?),
            rank => {
                return Err(format!(
                    "output `{}` has rank {rank}; vectors have 2 or 3",
                    output.name
                ));
            }
        };
        Ok(Self {
            lower_case: said.lower_case,
            prompt: settings.prompt.clone().unwrap_or_default(),
            max_tokens,
            vocabulary: tokenizer.get_vocab_size(true) as u32,
            pad,
            inputs,
            fixed_length,
            output: output.name.clone(),
            pooling,
            normalize: settings.normalize.or(said.normalize).unwrap_or(false),
            dimension: output.shape.last().and_then(|&d| usize::try_from(d).ok()),
            tokenizer,
        })
    }

    /// Length of the vectors, where the model says it.
    pub(crate) fn dimension(&self) -> Option<usize> {
        self.dimension
    }

    /// Longest text in tokens.
    pub(crate) fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// A text's tokens, special ones included, cut to the model's length.
    pub(crate) fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let text = if self.lower_case {
            text.to_lowercase()
        } else {
            text.to_owned()
        };
        let encoding = self
            .tokenizer
            .encode(format!("{}{text}", self.prompt), true)
            .map_err(|e| Error::invalid(format!("the text cannot be tokenised: {e}")))?;
        match encoding.get_ids() {
            [] => Err(Error::invalid("the text has no tokens")),
            ids => Ok(ids.to_vec()),
        }
    }

    /// Checks tokens that a client made itself, and cuts them to the model's length.
    pub(crate) fn check_tokens(&self, mut tokens: Vec<u32>) -> Result<Vec<u32>> {
        if let Some(token) = tokens.iter().find(|&&token| token >= self.vocabulary) {
            return Err(Error::invalid(format!(
                "token {token} is beyond the model's vocabulary of {}",
                self.vocabulary
            )));
        }
        if tokens.is_empty() {
            return Err(Error::invalid("an input without tokens"));
        }
        tokens.truncate(self.max_tokens);
        Ok(tokens)
    }

    /// The model's inputs for these sequences, padded to the longest of them.
    pub(crate) fn batch(&self, sequences: &[&[u32]]) -> Vec<NamedTensor> {
        let longest = sequences.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let length = self.fixed_length.unwrap_or(longest);
        self.inputs
            .iter()
            .map(|input| {
                let cells = sequences
                    .iter()
                    .flat_map(|tokens| (0..length).map(move |i| (i, tokens.get(i).copied())));
                let values = cells.map(|(i, token)| match input.role {
                    Role::Ids => i64::from(token.unwrap_or(self.pad)),
                    Role::Mask => i64::from(token.is_some()),
                    Role::Types => 0,
                    Role::Positions => i as i64,
                });
                NamedTensor {
                    name: input.name.clone(),
                    tensor: integers(input.datatype, vec![sequences.len(), length], values),
                }
            })
            .collect()
    }

    /// The texts' vectors out of the model's outputs.
    pub(crate) fn vectors(&self, outputs: &[NamedTensor], lengths: &[usize]) -> Result<Vec<Vec<f32>>> {
        let tensor = outputs
            .iter()
            .find(|output| output.name == self.output)
            .map(|output| &output.tensor)
            .ok_or_else(|| Error::internal(format!("the model gave no output `{}`", self.output)))?;
        let values = floats(tensor).ok_or_else(|| {
            Error::internal(format!(
                "output `{}` is {}, no floats",
                self.output,
                tensor.datatype.name()
            ))
        })?;
        let wrong = || {
            Error::internal(format!(
                "output `{}` has the shape {:?} for {} texts",
                self.output,
                tensor.shape,
                lengths.len()
            ))
        };
        let (length, dimension) = match (self.pooling, tensor.shape.as_slice()) {
            (None, &[texts, dimension]) if texts == lengths.len() => (1, dimension),
            (Some(_), &[texts, length, dimension]) if texts == lengths.len() => (length, dimension),
            _ => return Err(wrong()),
        };
        if dimension == 0
            || lengths
                .iter()
                .any(|&tokens| self.pooling.is_some() && tokens > length)
        {
            return Err(wrong());
        }
        Ok(values
            .chunks_exact(length * dimension)
            .zip(lengths)
            .map(|(text, &tokens)| {
                let mut vector = match self.pooling {
                    Some(pooling) => pooling::pool(&text[..tokens * dimension], dimension, pooling),
                    None => text.to_vec(),
                };
                if self.normalize {
                    pooling::normalize(&mut vector);
                }
                vector
            })
            .collect())
    }
}

fn token_input(spec: &TensorSpec) -> std::result::Result<TokenInput, String> {
    let role = match spec.name.as_str() {
        "input_ids" => Role::Ids,
        "attention_mask" => Role::Mask,
        "token_type_ids" => Role::Types,
        "position_ids" => Role::Positions,
        other => {
            return Err(format!(
                "input `{other}` is none of input_ids, attention_mask, token_type_ids and position_ids; nobody knows \
                 what to feed it"
            ));
        }
    };
    if !matches!(spec.datatype, Datatype::Int64 | Datatype::Int32)
        || spec.shape.len() != 2
        || spec.shape[0] >= 0
    {
        return Err(format!(
            "input `{}` is {} {:?}; INT64 or INT32 [−1, −1] is needed",
            spec.name,
            spec.datatype.name(),
            spec.shape
        ));
    }
    Ok(TokenInput {
        name: spec.name.clone(),
        role,
        datatype: spec.datatype,
    })
}

fn choose_output<'a>(
    wanted: Option<&str>,
    outputs: &'a [TensorSpec],
) -> std::result::Result<&'a TensorSpec, String> {
    let find = |name: &str| outputs.iter().find(|output| output.name == name);
    match wanted {
        Some(name) => {
            find(name).ok_or_else(|| format!("the model has no output `{name}` (embedding.output)"))
        }
        None => ["sentence_embedding", "last_hidden_state", "token_embeddings"]
            .into_iter()
            .find_map(find)
            .or_else(|| outputs.first())
            .ok_or_else(|| "the model has no output".to_owned()),
    }
}

fn integers(datatype: Datatype, shape: Vec<usize>, values: impl Iterator<Item = i64>) -> Tensor {
    let data = match datatype {
        Datatype::Int32 => values.flat_map(|v| (v as i32).to_le_bytes()).collect(),
        _ => values.flat_map(i64::to_le_bytes).collect(),
    };
    Tensor {
        datatype,
        shape,
        data: Data::Fixed(data),
    }
}

fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    let Data::Fixed(bytes) = &tensor.data else {
        return None;
    };
    let four = |c: &[u8]| [c[0], c[1], c[2], c[3]];
    let two = |c: &[u8]| [c[0], c[1]];
    Some(match tensor.datatype {
        Datatype::Fp32 => bytes
            .chunks_exact(4)
            .map(|c| f32::from_le_bytes(four(c)))
            .collect(),
        Datatype::Fp16 => bytes
            .chunks_exact(2)
            .map(|c| f16::from_le_bytes(two(c)).to_f32())
            .collect(),
        Datatype::Bf16 => bytes
            .chunks_exact(2)
            .map(|c| bf16::from_le_bytes(two(c)).to_f32())
            .collect(),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
