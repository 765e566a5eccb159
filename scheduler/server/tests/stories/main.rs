//! The scheduler as clients meet it, with small upstreams in the engines' place that say what they were asked.

mod grpc;
mod lifecycle;
mod rest;
mod upstream;
mod world;
