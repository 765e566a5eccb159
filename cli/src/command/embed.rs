//! `afterglow embed`: texts to vectors, or texts ranked by their similarity to a query.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::args::{Embed, Output};
use crate::client::Client;
use crate::hint;
use crate::render::{self, Table};

/// Runs the verb.
pub(super) async fn run(args: Embed, output: Output) -> Result<ExitCode> {
    let texts = if args.texts.is_empty() {
        lines_of_stdin()?
    } else {
        args.texts
    };
    let client = Client::new(&args.server)?;
    let mut inputs = texts.clone();
    inputs.extend(args.query.clone());
    let answer = client.embed(&args.model, &inputs).await?;
    ensure!(
        answer.data.len() == inputs.len(),
        "{} vectors came back for {} texts",
        answer.data.len(),
        inputs.len()
    );
    let mut vectors: Vec<Vec<f32>> = answer.data.into_iter().map(|e| e.embedding).collect();

    match args.query {
        Some(query) => {
            let query_vector = vectors.pop().context("the query's vector is missing")?;
            ranking(&query, &rank(&texts, &vectors, &query_vector), output)?;
        }
        None if output == Output::Json => {
            let items: Vec<_> = texts
                .iter()
                .zip(&vectors)
                .map(|(text, vector)| json!({ "text": text, "embedding": vector }))
                .collect();
            render::json(&json!({ "model": args.model, "data": items, "usage": answer.usage }))?;
        }
        None => render::text(overview(&texts, &vectors))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn lines_of_stdin() -> Result<Vec<String>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(hint::error(
            "no text to embed",
            "give texts as arguments, or one a line on standard input",
        ));
    }
    let lines: Vec<String> = stdin
        .lock()
        .lines()
        .collect::<Result<_, _>>()
        .context("reading standard input")?;
    ensure!(!lines.is_empty(), "standard input holds no text");
    Ok(lines)
}

/// Texts by cosine similarity to the query, best first.
fn rank<'t>(texts: &'t [String], vectors: &[Vec<f32>], query: &[f32]) -> Vec<(f32, &'t str)> {
    let mut ranked: Vec<(f32, &str)> = texts
        .iter()
        .zip(vectors)
        .map(|(text, vector)| (cosine(vector, query), text.as_str()))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn ranking(query: &str, ranked: &[(f32, &str)], output: Output) -> Result<()> {
    if output == Output::Json {
        let items: Vec<_> = ranked
            .iter()
            .map(|(score, text)| json!({ "score": score, "text": text }))
            .collect();
        return render::json(&json!({ "query": query, "ranking": items }));
    }
    let mut table = Table::new(["SCORE", "TEXT"]);
    for (score, text) in ranked {
        table.row([format!("{score:.3}"), (*text).to_owned()]);
    }
    render::text(table)
}

fn overview(texts: &[String], vectors: &[Vec<f32>]) -> Table {
    let mut table = Table::new(["TEXT", "DIMENSIONS", "VECTOR (all of it: --output json)"]);
    for (text, vector) in texts.iter().zip(vectors) {
        let head: Vec<String> = vector.iter().take(4).map(|x| format!("{x:+.4}")).collect();
        table.row([
            text.clone(),
            vector.len().to_string(),
            format!("{} …", head.join(" ")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_text_comes_first_whatever_the_vectors_lengths() {
        let texts = ["across".to_owned(), "along".to_owned()];
        let ranked = rank(&texts, &[vec![0.0, 9.0], vec![0.1, 0.0]], &[2.0, 0.0]);
        assert_eq!(
            ranked.iter().map(|(_, t)| *t).collect::<Vec<_>>(),
            ["along", "across"]
        );
    }
}
