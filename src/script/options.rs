//! Maps of options as scripts write them: camelCase or snake_case, typed, with suggestions for what is unknown.

use std::time::Duration;

use rhai::{Dynamic, ImmutableString, Map};
use zeroize::Zeroizing;

use crate::{
    engine::{DeleteOptions, DeleteStrategy, Phase},
    model::{Diagnostic, Secret, StageName, diagnostic::codes, schema::snake_case},
    util::text,
};

use super::{
    convert::type_words,
    fault::{Fault, Outcome},
    host::AppOptions,
    lazy::SecretValue,
    natives::store::StoreDeclaration,
};

/// A map of options for `function`, taken apart key by key.
pub(super) struct Options<'a> {
    function: &'a str,
    map: Map,
    known: &'a [&'static str],
}

impl<'a> Options<'a> {
    /// Refuses every key that is not in `known` (camelCase).
    pub(super) fn new(function: &'a str, map: Map, known: &'a [&'static str]) -> Outcome<Self> {
        for key in map.keys() {
            if known
                .iter()
                .any(|name| *name == key.as_str() || snake_case(name) == key.as_str())
            {
                continue;
            }
            let near = text::suggestions(key, known.iter().copied(), 1);
            let help = match near.first() {
                Some(name) => format!("did you mean `{name}`?"),
                None => {
                    let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                    format!("it takes {}", list.join(", "))
                }
            };
            let diagnostic = Diagnostic::error(
                codes::UNKNOWN_PROP,
                format!("unknown option `{key}` of `{function}`"),
            );
            return Err(Fault::option(diagnostic.with_help(help), key, true).raise());
        }
        Ok(Self {
            function,
            map,
            known,
        })
    }

    /// The value of an option; `()` counts as not given.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Dynamic> {
        debug_assert!(self.known.contains(&name));
        let value = self
            .map
            .remove(name)
            .or_else(|| self.map.remove(snake_case(name).as_str()))?
            .flatten();
        (!value.is_unit()).then_some(value)
    }

    fn wrong(&self, name: &str, expected: &str, found: &Dynamic) -> Box<rhai::EvalAltResult> {
        let diagnostic = Diagnostic::error(
            codes::WRONG_TYPE,
            format!(
                "option `{name}` of `{}` must be {expected}, found {}",
                self.function,
                type_words(found.type_name())
            ),
        );
        let help = match expected {
            "true or false" => "write `true` or `false`, without quotes",
            "a string" | "a string or a secret" => "write it as text in quotes: `\"..\"`",
            _ => "write the number without quotes",
        };
        Fault::option(diagnostic.with_help(help), name, false).raise()
    }

    pub(super) fn bool(&mut self, name: &'static str) -> Outcome<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_bool() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(self.wrong(name, "true or false", &value)),
            },
        }
    }

    pub(super) fn string(&mut self, name: &'static str) -> Outcome<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.read_lock::<ImmutableString>() {
                Some(text) => Ok(Some(text.to_string())),
                None => Err(self.wrong(name, "a string", &value)),
            },
        }
    }

    pub(super) fn count(&mut self, name: &'static str) -> Outcome<Option<u64>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_int().ok().and_then(|v| u64::try_from(v).ok()) {
                Some(value) => Ok(Some(value)),
                None => Err(self.wrong(name, "a whole number, 0 or more", &value)),
            },
        }
    }

    /// Text that may be wrapped as a secret.
    pub(super) fn secret(&mut self, name: &'static str) -> Outcome<Option<Zeroizing<String>>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => {
                if let Some(text) = value.read_lock::<ImmutableString>() {
                    return Ok(Some(Zeroizing::new(text.to_string())));
                }
                match value
                    .read_lock::<SecretValue>()
                    .map(|secret| secret.0.clone())
                {
                    Some(Secret::Plain(text)) => Ok(Some((*text).clone())),
                    _ => Err(self.wrong(name, "a string or a secret", &value)),
                }
            }
        }
    }

    fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&'static str, T)],
    ) -> Outcome<Option<T>> {
        let Some(text) = self.string(name)? else {
            return Ok(None);
        };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(Some(*value));
        }
        let list: Vec<String> = choices
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        let diagnostic = Diagnostic::error(
            codes::WRONG_TYPE,
            format!(
                "\"{text}\" is no value for option `{name}` of `{}`",
                self.function
            ),
        )
        .with_help(format!("one of {}", list.join(", ")));
        Err(Fault::option(diagnostic, name, false).raise())
    }
}

/// An option that there must be, and not be empty.
pub(super) fn required(function: &str, name: &str, value: Option<String>) -> Outcome<String> {
    value.filter(|text| !text.is_empty()).ok_or_else(|| {
        let diagnostic = Diagnostic::error(
            codes::MISSING_PROP,
            format!("`{function}` needs the option `{name}`"),
        );
        let help = format!("`{function}(#{{ {name}: \"..\" }})`");
        Fault::new(diagnostic.with_help(help)).raise()
    })
}

/// The bucket that `stateStore` names.
fn store_option(options: &mut Options<'_>) -> Outcome<Option<StoreDeclaration>> {
    let Some(value) = options.take("stateStore") else {
        return Ok(None);
    };
    match value.read_lock::<StoreDeclaration>() {
        Some(declaration) => Ok(Some(declaration.clone())),
        None => {
            let diagnostic = Diagnostic::error(
                codes::WRONG_TYPE,
                format!(
                    "option `stateStore` of `alchemy` must be a store, found {}",
                    type_words(value.type_name())
                ),
            )
            .with_help("write `s3(#{ bucket: \"..\" })` or `r2(#{ bucket: \"..\" })`");
            Err(Fault::option(diagnostic, "stateStore", false).raise())
        }
    }
}

/// The options of `alchemy(name, #{ .. })`.
pub(super) fn app_options(map: Map) -> Outcome<AppOptions> {
    let mut options = Options::new(
        "alchemy",
        map,
        &[
            "stage",
            "phase",
            "password",
            "target",
            "adopt",
            "force",
            "profile",
            "quiet",
            "concurrency",
            "deleteAdopted",
            "stateStore",
        ],
    )?;
    let state_store = store_option(&mut options)?;
    let stage = match options.string("stage")? {
        None => None,
        Some(stage) => Some(StageName::new(stage).map_err(|error| {
            let diagnostic = Diagnostic::error(codes::BAD_ID, error.to_string())
                .with_help("choose another name; it becomes part of names and of folders in state");
            Fault::option(diagnostic, "stage", false).raise()
        })?),
    };
    Ok(AppOptions {
        stage,
        phase: options.choice(
            "phase",
            &[
                ("up", Phase::Up),
                ("destroy", Phase::Destroy),
                ("read", Phase::Read),
            ],
        )?,
        // An empty password is what `env("ALCHEMY_PASSWORD", "")` gives: none.
        password: options.secret("password")?.filter(|text| !text.is_empty()),
        target: options.string("target")?,
        adopt: options.bool("adopt")?,
        force: options.bool("force")?,
        profile: options.string("profile")?,
        quiet: options.bool("quiet")?,
        concurrency: options
            .count("concurrency")?
            .map(|count| usize::try_from(count.max(1)).unwrap_or(usize::MAX)),
        delete_adopted: options.bool("deleteAdopted")?,
        state_store,
    })
}

/// The options of `finalize(#{ .. })`, over what the run has.
pub(super) fn delete_options(map: Map, base: &DeleteOptions) -> Outcome<DeleteOptions> {
    #[derive(Clone, Copy)]
    enum Word {
        Sequential,
        Parallel,
        Batched,
    }
    let mut options = Options::new(
        "finalize",
        map,
        &[
            "destroyStrategy",
            "batchSize",
            "maxRetries",
            "retryDelay",
            "timeout",
            "dryRun",
            "continueOnError",
        ],
    )?;
    let batch = options
        .count("batchSize")?
        .map(|size| usize::try_from(size.max(1)).unwrap_or(usize::MAX));
    let word = options.choice(
        "destroyStrategy",
        &[
            ("sequential", Word::Sequential),
            ("parallel", Word::Parallel),
            ("batched", Word::Batched),
        ],
    )?;
    let strategy = match (word, batch) {
        (Some(Word::Sequential), _) => DeleteStrategy::Sequential,
        (Some(Word::Parallel), _) => DeleteStrategy::Parallel,
        (Some(Word::Batched), size) => DeleteStrategy::Batched(size.unwrap_or(10)),
        (None, Some(size)) => DeleteStrategy::Batched(size),
        (None, None) => base.strategy,
    };
    Ok(DeleteOptions {
        strategy,
        max_retries: options
            .count("maxRetries")?
            .map_or(base.max_retries, |count| {
                u32::try_from(count).unwrap_or(u32::MAX)
            }),
        retry_delay: options
            .count("retryDelay")?
            .map_or(base.retry_delay, Duration::from_millis),
        timeout: options
            .count("timeout")?
            .map(Duration::from_millis)
            .or(base.timeout),
        dry_run: options.bool("dryRun")?.unwrap_or(base.dry_run),
        continue_on_error: options
            .bool("continueOnError")?
            .unwrap_or(base.continue_on_error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::fault;

    fn map(text: &str) -> Map {
        rhai::Engine::new().eval::<Map>(text).unwrap()
    }

    #[test]
    fn both_spellings_are_read() {
        for text in [
            r#"#{ deleteAdopted: true, stage: "prod", password: "" }"#,
            r#"#{ delete_adopted: true, stage: "prod" }"#,
        ] {
            let options = app_options(map(text)).unwrap();
            assert_eq!(options.delete_adopted, Some(true));
            assert_eq!(options.stage.unwrap().as_str(), "prod");
            assert!(options.password.is_none());
        }
    }

    #[test]
    fn unknown_options_and_wrong_types_are_refused() {
        let cases = [
            (r#"#{ stge: "x" }"#, "unknown option `stge` of `alchemy`"),
            (
                "#{ adopt: 1 }",
                "option `adopt` of `alchemy` must be true or false, found int",
            ),
            (
                r#"#{ phase: "down" }"#,
                "\"down\" is no value for option `phase` of `alchemy`",
            ),
            (r#"#{ stage: "a/b" }"#, "stage name `a/b` holds '/'"),
        ];
        for (text, expected) in cases {
            let error = app_options(map(text)).unwrap_err();
            let fault = fault::find(&error).unwrap();
            assert!(
                fault.diagnostic().message.starts_with(expected),
                "{}",
                fault.diagnostic().message
            );
        }
    }

    #[test]
    fn delete_options_go_over_the_runs_own() {
        let base = DeleteOptions {
            max_retries: 7,
            ..DeleteOptions::default()
        };
        let options = delete_options(
            map(r#"#{ destroyStrategy: "batched", batchSize: 3, retry_delay: 250, dryRun: true }"#),
            &base,
        )
        .unwrap();
        assert_eq!(options.strategy, DeleteStrategy::Batched(3));
        assert_eq!(options.max_retries, 7);
        assert_eq!(options.retry_delay, Duration::from_millis(250));
        assert!(options.dry_run);
    }
}
