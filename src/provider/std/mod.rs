//! Kinds that need no cloud.
