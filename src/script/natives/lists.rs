//! Functions of lists that Rhai's packages answer without a word when a closure fails or gives no answer: here both are errors.
//!
//! A closure that looks into an unknown value would otherwise count as `false`, and a plan would show a false answer.

use std::{cmp::Ordering, sync::Arc};

use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, NativeCallContext};

use crate::model::diagnostic::codes;

use super::super::{
    convert::type_words,
    fault::{self, Outcome},
    host::Host,
    lazy,
};

/// What a closure says of an item: Rhai's closures may take its index as well.
fn decide(
    host: &Host,
    context: &NativeCallContext,
    closure: &FnPtr,
    item: &Dynamic,
    index: usize,
) -> Outcome<bool> {
    let index = Dynamic::from_int(i64::try_from(index).unwrap_or(i64::MAX));
    let mut this = item.clone();
    let answer = closure.call_raw_with_extra_args(
        context.fn_name(),
        context,
        Some(&mut this),
        [],
        [index],
        Some(0),
    )?;
    answered(host, context, &answer)
}

fn answered(host: &Host, context: &NativeCallContext, answer: &Dynamic) -> Outcome<bool> {
    if let Some(lazy) = lazy::within(answer) {
        return Err(host.force(&lazy, context));
    }
    answer.as_bool().map_err(|_| {
        fault::fail_with_help(
            codes::WRONG_ARGUMENTS,
            format!(
                "the closure of `{}` must answer true or false, found {}",
                context.fn_name(),
                type_words(context.engine().map_type_name(answer.type_name()))
            ),
            "compare inside it: `|x| x == ..`",
        )
    })
}

/// How two items of one simple type stand to each other; `None` for others.
fn compare(a: &Dynamic, b: &Dynamic) -> Option<Ordering> {
    if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
        return Some(a.cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (a.as_float(), b.as_float()) {
        return Some(a.total_cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (a.as_bool(), b.as_bool()) {
        return Some(a.cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (a.as_char(), b.as_char()) {
        return Some(a.cmp(&b));
    }
    let (a, b) = (
        a.read_lock::<ImmutableString>()?,
        b.read_lock::<ImmutableString>()?,
    );
    Some(a.as_str().cmp(b.as_str()))
}

fn first_unknown(host: &Host, context: &NativeCallContext, list: &Array) -> Outcome<()> {
    match list.iter().find_map(lazy::within) {
        Some(lazy) => Err(host.force(&lazy, context)),
        None => Ok(()),
    }
}

/// Sorts with a comparison that may fail: the first failure ends it.
fn sort_with(
    list: &mut Array,
    mut compare: impl FnMut(&Dynamic, &Dynamic) -> Outcome<Ordering>,
) -> Outcome<()> {
    // A merge sort of our own: the standard one may panic when a comparison contradicts itself.
    let mut width = 1;
    while width < list.len() {
        let mut merged = Array::with_capacity(list.len());
        for chunk in list.chunks(width * 2) {
            let (mut left, mut right) = chunk.split_at(width.min(chunk.len()));
            while let (Some(a), Some(b)) = (left.first(), right.first()) {
                if compare(a, b)? == Ordering::Greater {
                    merged.push(b.clone());
                    right = &right[1..];
                } else {
                    merged.push(a.clone());
                    left = &left[1..];
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        *list = merged;
        width *= 2;
    }
    Ok(())
}

/// What a closure says of two items: a number below, at or above 0, or whether the first comes first.
fn ordered(host: &Host, context: &NativeCallContext, answer: &Dynamic) -> Outcome<Ordering> {
    if let Ok(number) = answer.as_int() {
        return Ok(number.cmp(&0));
    }
    Ok(if answered(host, context, answer)? {
        Ordering::Less
    } else {
        Ordering::Greater
    })
}

fn dedup(
    list: &mut Array,
    mut same: impl FnMut(&Dynamic, &Dynamic) -> Outcome<bool>,
) -> Outcome<()> {
    let mut kept = Array::with_capacity(list.len());
    for item in list.iter() {
        let double = match kept.last() {
            Some(last) => same(last, item)?,
            None => false,
        };
        if !double {
            kept.push(item.clone());
        }
    }
    *list = kept;
    Ok(())
}

/// Registers all of them.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    register_order(engine, host);
    let on = Arc::clone(host);
    engine.register_fn(
        "filter",
        move |context: NativeCallContext, list: &mut Array, closure: FnPtr| -> Outcome<Array> {
            let mut kept = Array::new();
            for (index, item) in list.iter().enumerate() {
                if decide(&on, &context, &closure, item, index)? {
                    kept.push(item.clone());
                }
            }
            Ok(kept)
        },
    );
    for (name, keep) in [("retain", true), ("drain", false)] {
        let on = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: NativeCallContext, list: &mut Array, closure: FnPtr| -> Outcome<Array> {
                let (mut kept, mut taken) = (Array::new(), Array::new());
                for (index, item) in list.iter().enumerate() {
                    let stays = decide(&on, &context, &closure, item, index)? == keep;
                    if stays { &mut kept } else { &mut taken }.push(item.clone());
                }
                *list = kept;
                Ok(taken)
            },
        );
    }
    let on = Arc::clone(host);
    let position = move |context: &NativeCallContext, list: &Array, closure: &FnPtr| {
        for (index, item) in list.iter().enumerate() {
            if decide(&on, context, closure, item, index)? {
                return Ok(Some(index));
            }
        }
        Ok::<_, Box<EvalAltResult>>(None)
    };
    let find = position.clone();
    engine.register_fn(
        "find",
        move |context: NativeCallContext, list: &mut Array, closure: FnPtr| -> Outcome<Dynamic> {
            let found = find(&context, list, &closure)?;
            Ok(found.map_or(Dynamic::UNIT, |index| list[index].clone()))
        },
    );
    let index_of = position.clone();
    engine.register_fn(
        "index_of",
        move |context: NativeCallContext, list: &mut Array, closure: FnPtr| -> Outcome<i64> {
            let found = index_of(&context, list, &closure)?;
            Ok(found.map_or(-1, |index| i64::try_from(index).unwrap_or(i64::MAX)))
        },
    );
    engine.register_fn(
        "some",
        move |context: NativeCallContext, list: &mut Array, closure: FnPtr| -> Outcome<bool> {
            Ok(position(&context, list, &closure)?.is_some())
        },
    );
    let on = Arc::clone(host);
    engine.register_fn(
        "all",
        move |context: NativeCallContext, list: &mut Array, closure: FnPtr| -> Outcome<bool> {
            for (index, item) in list.iter().enumerate() {
                if !decide(&on, &context, &closure, item, index)? {
                    return Ok(false);
                }
            }
            Ok(true)
        },
    );
}

fn register_order(engine: &mut Engine, host: &Arc<Host>) {
    for name in ["sort", "sort_by"] {
        let on = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: NativeCallContext, list: &mut Array, closure: FnPtr| -> Outcome<()> {
                sort_with(list, |a, b| {
                    let answer = closure.call_raw(&context, None, [a.clone(), b.clone()])?;
                    ordered(&on, &context, &answer)
                })
            },
        );
    }
    for (name, reverse) in [("sort", false), ("sort_desc", true)] {
        let on = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: NativeCallContext, list: &mut Array| -> Outcome<()> {
                first_unknown(&on, &context, list)?;
                sort_with(list, |a, b| {
                    let order = compare(a, b).ok_or_else(|| {
                        fault::fail_with_help(
                            codes::WRONG_ARGUMENTS,
                            "items of different types cannot be sorted",
                            "say how they compare: `list.sort(|a, b| a.size - b.size)`",
                        )
                    })?;
                    Ok(if reverse { order.reverse() } else { order })
                })
            },
        );
    }
    let on = Arc::clone(host);
    engine.register_fn(
        "dedup",
        move |context: NativeCallContext, list: &mut Array, closure: FnPtr| -> Outcome<()> {
            dedup(list, |a, b| {
                let answer = closure.call_raw(&context, None, [a.clone(), b.clone()])?;
                answered(&on, &context, &answer)
            })
        },
    );
    engine.register_fn(
        "dedup",
        move |context: NativeCallContext, list: &mut Array| -> Outcome<()> {
            dedup(list, |a, b| {
                context.call_native_fn::<bool>("==", (a.clone(), b.clone()))
            })
        },
    );
}
