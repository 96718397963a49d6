//! The engine and the file store without script, process start and provider: what each resource costs, and how that grows.
//!
//! `cargo bench` prints the time of a run with 100, 1,000 and 10,000 resources, in memory and on disk; `scripts/bench` measures
//! whole processes.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on says so by its panic"
)]

use std::{path::Path, sync::Arc, time::Duration};

use alch::{
    engine::{
        Declaration, DeleteOptions, Event, EventSink, Phase, ResourceOptions, Run, RunOptions,
        World,
    },
    model::{
        AppName, DeletePolicy, KindSchema, Map, ReplaceOrder, ResourceId, ScopePath, StageName,
        StagePath, Value,
    },
    provider::{
        CheckContext, Checked, Existing, Found, OperationContext, PropError, Provider,
        ProviderError, Registry,
    },
    secret::KeyMaterial,
    state::{MemoryStore, SharedStore, file::FileStore},
    util::{clock::SystemClock, ids::SystemIds},
};
use divan::{Bencher, counter::ItemsCount};
use tokio::runtime::Runtime;

const SIZES: [usize; 3] = [100, 1_000, 10_000];

fn main() {
    divan::main();
}

/// A kind whose objects are nowhere.
struct Noop(KindSchema);

impl Noop {
    fn new() -> Self {
        Self(KindSchema {
            kind: "bench::Noop".into(),
            doc: "Nothing.".to_owned(),
            props: Vec::new(),
            open_props: true,
            attributes: Vec::new(),
            open_attributes: true,
            replace: ReplaceOrder::CreateFirst,
            delete: DeletePolicy::Disposable,
            name_limit: 64,
        })
    }
}

#[async_trait::async_trait]
impl Provider for Noop {
    fn schema(&self) -> &KindSchema {
        &self.0
    }

    fn check(&self, context: &CheckContext, props: Map) -> Result<Checked, Vec<PropError>> {
        Ok(Checked {
            props,
            physical_name: context.id.clone(),
            explicit_name: false,
            known: Map::new(),
            identity: None,
        })
    }

    async fn read(
        &self,
        _: &OperationContext,
        existing: &Existing,
    ) -> Result<Option<Map>, ProviderError> {
        Ok(Some(existing.outputs.clone()))
    }

    async fn create(&self, _: &OperationContext, props: &Map) -> Result<Map, ProviderError> {
        Ok(props.clone())
    }

    async fn update(
        &self,
        _: &OperationContext,
        props: &Map,
        _: &Existing,
    ) -> Result<Map, ProviderError> {
        Ok(props.clone())
    }

    async fn delete(&self, _: &OperationContext, _: &Existing) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn find(&self, _: &OperationContext, _: &Map) -> Result<Option<Found>, ProviderError> {
        Ok(None)
    }
}

struct Silent;

impl EventSink for Silent {
    fn emit(&self, _: Event) {}

    fn wants_unchanged(&self) -> bool {
        false
    }
}

fn run(runtime: &Runtime, store: &SharedStore, count: usize) {
    let registry = Registry::new();
    registry.add(Arc::new(Noop::new()));
    let world = World {
        redact: Arc::new(str::to_owned),
        store: Arc::clone(store),
        registry: Arc::new(registry),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        events: Arc::new(Silent),
        meter: alch::provider::Meter::default(),
        cancel: alch::engine::Cancel::default(),
    };
    let options = RunOptions {
        phase: Phase::Up,
        adopt: false,
        force: false,
        refresh: false,
        rebuild: false,
        concurrency: 10,
        allow_data_loss: false,
        delete_adopted: false,
        target: "bench".to_owned(),
        folder: Path::new(".").into(),
        access: Arc::default(),
        script: None,
        command: "bench".to_owned(),
        actor: "bench".to_owned(),
        host: "bench".to_owned(),
        lock_wait: Duration::ZERO,
        delete: DeleteOptions::default(),
        expected_plan: None,
    };
    let stage = StagePath::new(
        AppName::new("bench").unwrap(),
        StageName::new("dev").unwrap(),
    );
    let key = KeyMaterial::Password("bench".to_owned().into());
    runtime.block_on(async {
        let run = Run::start(world, stage, key, options).await.unwrap();
        for index in 0..count {
            let props = Map::from([
                (
                    "value".to_owned(),
                    Value::Int(i64::try_from(index).unwrap()),
                ),
                (
                    "text".to_owned(),
                    Value::string("a few words that stand for props"),
                ),
            ]);
            run.declare(Declaration {
                scope: ScopePath::root(),
                id: ResourceId::new(format!("r{index}")).unwrap(),
                kind: "bench::Noop".into(),
                props,
                options: ResourceOptions::default(),
                position: None,
                conditional: false,
            })
            .unwrap();
        }
        run.finalize(true).await.unwrap();
    });
}

fn memory() -> SharedStore {
    Arc::new(MemoryStore::new(Arc::new(SystemClock), Arc::new(SystemIds)))
}

fn runtime() -> Runtime {
    Runtime::new().unwrap()
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn create_in_memory(bencher: Bencher, count: usize) {
    let runtime = runtime();
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(memory)
        .bench_values(|store| run(&runtime, &store, count));
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn unchanged_in_memory(bencher: Bencher, count: usize) {
    let runtime = runtime();
    let store = memory();
    run(&runtime, &store, count);
    bencher
        .counter(ItemsCount::new(count))
        .bench(|| run(&runtime, &store, count));
}

/// The folders stay until the end: ext4 makes new files slowly for a minute after many were deleted.
#[divan::bench(args = SIZES, sample_count = 3, sample_size = 1)]
fn create_on_disk(bencher: Bencher, count: usize) {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let next = std::sync::atomic::AtomicUsize::new(0);
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| -> SharedStore {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Arc::new(FileStore::new(folder.path().join(index.to_string())))
        })
        .bench_values(|store| run(&runtime, &store, count));
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn unchanged_on_disk(bencher: Bencher, count: usize) {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(FileStore::new(folder.path().to_owned()));
    run(&runtime, &store, count);
    bencher
        .counter(ItemsCount::new(count))
        .bench(|| run(&runtime, &store, count));
}
