use std::fs;

use super::*;

/// A tokenizer of whole words: `[CLS]` a b c … `[SEP]`; its own truncation and padding are nonsense on purpose.
const TOKENIZER: &str = r#"{
  "version": "1.0",
  "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
  "padding": {"strategy": {"Fixed": 7}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 9, "pad_type_id": 0, "pad_token": "[PAD]"},
  "added_tokens": [],
  "normalizer": null,
  "pre_tokenizer": {"type": "Whitespace"},
  "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 1], "cls": ["[CLS]", 0]},
  "decoder": null,
  "model": {"type": "WordLevel", "vocab": {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "a": 3, "b": 4, "c": 5, "d": 6, "query": 7, ":": 8, "[PAD]": 9}, "unk_token": "[UNK]"}
}"#;

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        datatype,
        shape: shape.to_vec(),
    }
}

fn inputs() -> Vec<TensorSpec> {
    vec![
        spec("input_ids", Datatype::Int64, &[-1, -1]),
        spec("attention_mask", Datatype::Int32, &[-1, -1]),
        spec("position_ids", Datatype::Int64, &[-1, -1]),
    ]
}

fn outputs() -> Vec<TensorSpec> {
    vec![
        spec("logits", Datatype::Fp32, &[-1]),
        spec("last_hidden_state", Datatype::Fp32, &[-1, -1, 2]),
    ]
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), TOKENIZER).unwrap();
    folder
}

fn settings() -> Embedding {
    Embedding {
        max_tokens: Some(5),
        pooling: Some(Pooling::Mean),
        ..Default::default()
    }
}

fn encoder(settings: &Embedding) -> Encoder {
    Encoder::load(folder().path(), settings, &inputs(), &outputs()).unwrap()
}

#[test]
fn texts_are_cut_to_the_models_length_and_not_to_the_tokenizers() {
    let encoder = encoder(&settings());
    assert_eq!(
        encoder.tokens("a b").unwrap(),
        [0, 3, 4, 1],
        "not padded to 7, not cut to 3"
    );
    assert_eq!(
        encoder.tokens("a b c d a b").unwrap(),
        [0, 3, 4, 5, 1],
        "five in all"
    );
    assert_eq!(encoder.tokens("").unwrap(), [0, 1]);
    let prompted = super::tests::encoder(&Embedding {
        prompt: Some("query: ".into()),
        ..settings()
    });
    assert_eq!(prompted.tokens("a").unwrap(), [0, 7, 8, 3, 1]);
}

#[test]
fn tokens_of_a_client_are_checked() {
    let encoder = encoder(&settings());
    assert_eq!(encoder.check_tokens(vec![3; 9]).unwrap(), [3; 5]);
    assert!(
        encoder
            .check_tokens(vec![3, 10])
            .unwrap_err()
            .message
            .contains("token 10")
    );
    assert!(
        encoder
            .check_tokens(Vec::new())
            .unwrap_err()
            .message
            .contains("without tokens")
    );
}

#[test]
fn a_batch_is_padded_to_its_longest() {
    let batch = encoder(&settings()).batch(&[&[0, 3, 1], &[0, 1]]);
    let wide: Vec<u8> = [0i64, 3, 1, 0, 1, 9]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let mask: Vec<u8> = [1i32, 1, 1, 1, 1, 0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    assert_eq!(batch[0].tensor.shape, [2, 3]);
    assert_eq!(batch[0].tensor.data, Data::Fixed(wide.into()));
    assert_eq!(batch[1].tensor.data, Data::Fixed(mask.into()));
    assert_eq!(batch[2].name, "position_ids");
}

#[test]
fn padding_never_reaches_a_vector() {
    let encoder = encoder(&Embedding {
        normalize: Some(true),
        ..settings()
    });
    let values = [3.0f32, 0.0, 3.0, 8.0, 0.0, 2.0, f32::NAN, 77.0];
    let output = NamedTensor {
        name: "last_hidden_state".into(),
        tensor: Tensor {
            datatype: Datatype::Fp32,
            shape: vec![2, 2, 2],
            data: Data::Fixed(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        },
    };
    let vectors = encoder.vectors(std::slice::from_ref(&output), &[2, 1]).unwrap();
    assert_eq!(vectors, [vec![0.6, 0.8], vec![0.0, 1.0]]);
    assert!(encoder.vectors(&[output], &[2]).is_err(), "one text, two answers");
}

#[test]
fn what_is_missing_is_named() {
    let none = Embedding::default();
    let cases: Vec<(Embedding, Vec<TensorSpec>, Vec<TensorSpec>, &str)> = vec![
        (
            Embedding {
                tokenizer: Some("other.json".into()),
                ..settings()
            },
            inputs(),
            outputs(),
            "no `other.json`",
        ),
        (
            Embedding {
                tokenizer: Some("../tokenizer.json".into()),
                ..settings()
            },
            inputs(),
            outputs(),
            "version's folder",
        ),
        (none, inputs(), outputs(), "how long a text may be"),
        (
            Embedding {
                max_tokens: Some(2),
                ..settings()
            },
            inputs(),
            outputs(),
            "special tokens alone are 2",
        ),
        (
            Embedding {
                pooling: None,
                ..settings()
            },
            inputs(),
            outputs(),
            "embedding.pooling",
        ),
        (
            Embedding {
                output: Some("pooled".into()),
                ..settings()
            },
            inputs(),
            outputs(),
            "no output `pooled`",
        ),
        (
            settings(),
            vec![spec("pixels", Datatype::Fp32, &[-1, -1])],
            outputs(),
            "`pixels`",
        ),
        (
            settings(),
            vec![spec("input_ids", Datatype::Fp32, &[-1, -1])],
            outputs(),
            "INT64 or INT32",
        ),
        (
            settings(),
            vec![spec("attention_mask", Datatype::Int64, &[-1, -1])],
            outputs(),
            "no input `input_ids`",
        ),
        (
            settings(),
            inputs(),
            vec![spec("y", Datatype::Fp32, &[-1])],
            "rank 1",
        ),
    ];
    for (settings, inputs, outputs, expected) in cases {
        let Err(error) = Encoder::load(folder().path(), &settings, &inputs, &outputs) else {
            panic!("accepted: {expected}");
        };
        assert!(
            error.message.contains(expected),
            "{} does not say {expected}",
            error.message
        );
    }
    let empty = tempfile::tempdir().unwrap();
    let error = Encoder::load(empty.path(), &settings(), &inputs(), &outputs())
        .err()
        .unwrap();
    assert!(error.message.contains("no `tokenizer.json`"), "{}", error.message);
}

#[test]
fn a_model_of_one_length_gets_that_length() {
    let fixed = vec![spec("input_ids", Datatype::Int64, &[-1, 4])];
    let encoder = Encoder::load(folder().path(), &settings(), &fixed, &outputs()).unwrap();
    assert_eq!(encoder.max_tokens(), 4);
    assert_eq!(encoder.batch(&[&[0, 1]])[0].tensor.shape, [1, 4]);
}
