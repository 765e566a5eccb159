"""Semantic search over a few sentences with a running server, with nothing but the standard library.

search.py [--url http://127.0.0.1:8000] [QUERY…]
"""

import argparse
import json
import urllib.request

MODEL = "all-minilm-l6-v2"

SENTENCES = [
    "The graphics card mined coins for four years and still passes every memory test.",
    "An electrician checks the wiring before the power is switched on.",
    "Fresh bread smells best in the early morning.",
    "The bakery on the corner sells rolls from six o'clock.",
    "Rain is expected in the north, with strong wind along the coast.",
    "It will stay dry and sunny until the weekend.",
    "The train to Hamburg leaves from platform seven.",
    "She practises the violin for two hours every evening.",
    "The orchestra tuned their instruments before the concert.",
    "A vaccine trains the immune system to recognise a virus.",
    "The doctor recommends rest and plenty of water.",
    "Interest rates rose again, so the loan became more expensive.",
]

# Each query with the sentence that has to come first; no query shares a telling word with its answer.
QUERIES = {
    "Can I still use my old GPU?": SENTENCES[0],
    "How is the weather by the sea?": SENTENCES[4],
    "Where can I buy breakfast?": SENTENCES[3],
    "classical music": SENTENCES[8],
}

Vector = list[float]


def embed(url: str, texts: list[str]) -> list[Vector]:
    """One vector of length 1 for each text."""
    body = json.dumps({"model": MODEL, "input": texts, "encoding_format": "float"}).encode()
    request = urllib.request.Request(f"{url}/v1/embeddings", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return [item["embedding"] for item in json.load(response)["data"]]


def rank(query: Vector, vectors: list[Vector]) -> list[tuple[float, int]]:
    """Similarity and index, best first; for vectors of length 1 the cosine is the dot product."""
    cosines = [sum(a * b for a, b in zip(query, vector, strict=True)) for vector in vectors]
    return sorted(((cosine, index) for index, cosine in enumerate(cosines)), reverse=True)


def show(query: str, ranking: list[tuple[float, int]], best: int = 3) -> None:
    print(f"\n  {query}")
    for score, index in ranking[:best]:
        print(f"    {score:5.2f}  {'█' * round(20 * max(score, 0)):<20}  {SENTENCES[index]}")


def search(url: str, queries: list[str]) -> list[str]:
    """Prints a ranking for each query and returns the sentences that came first."""
    vectors = embed(url, SENTENCES + queries)
    winners = []
    for query, vector in zip(queries, vectors[len(SENTENCES) :], strict=True):
        ranking = rank(vector, vectors[: len(SENTENCES)])
        show(query, ranking)
        winners.append(SENTENCES[ranking[0][1]])
    return winners


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Semantic search over a few sentences with a running server.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("queries", nargs="*", default=list(QUERIES), metavar="QUERY")
    arguments = parser.parse_args()
    search(arguments.url, arguments.queries)
