//! Bundling: from an entrypoint in TypeScript, JSX or JavaScript with packages to the modules that a Worker takes.
//!
//! Behind one trait, [`Bundler`]. The one that is there runs the `esbuild` binary (`esbuild`), remembers what it made as long
//! as nothing that it read has changed (`memory`), and needs no Node. What may be read and run is the caller's to decide:
//! a bundle names its inputs.

mod bundler;
mod command;
mod esbuild;
mod map;
mod memory;
mod messages;
mod outputs;
pub mod package;

pub use self::bundler::{
    Bundle, BundleError, Bundler, Format, Message, Module, NODE_MODULES, Options, Request,
};
pub use self::esbuild::Esbuild;
