//! Which store holds the state of an application: the `.alchemy` folder, or a bucket.
//!
//! What a script declares (`stateStore: s3(..)`) counts most, then what was remembered of a script or of `alch state
//! migrate-store`, then `$ALCHEMY_STATE_STORE`, then what was remembered of that, then the folder. A variable that names another
//! store than `migrate-store` brought the state to is refused, not passed over. A bucket is remembered in
//! `.alchemy/stores/<app>.json`, without secrets, so that commands that do not read the script find it.

mod memory;
mod routed;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::{
    memory::{DeclaredBy, Remembered},
    routed::{Route, Routed},
};
use crate::{
    cli::{Context, environment::Environment, error::CliError, settings::lock_ttl},
    model::{AppName, StagePath, diagnostic::codes},
    script::StoreDeclaration,
    secret::Redactor,
    state::{
        BucketFault, BucketStore, FileStore, OtherStore, SharedStore, StateError,
        bucket::{BucketConfig, BucketKeys, ConfigError},
    },
};

/// What `$ALCHEMY_STATE_STORE` and `--to` call the folder.
const LOCAL: &str = "local";
/// Names a store by its address.
const STORE_VARIABLE: &str = "ALCHEMY_STATE_STORE";
/// Why a store is refused that has an older copy of a stage that was removed.
const REMOVED: &str = "later than what there is of it in";
/// Names a bucket of R2, where the keys of one are there too.
const BUCKET_VARIABLE: &str = "R2_BUCKET_NAME";

/// Where state is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// In the folder of the project.
    Folder,
    /// In a bucket.
    Bucket(BucketConfig),
}

impl Location {
    /// As messages name it.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Folder => "the project's `.alchemy` folder".to_owned(),
            Self::Bucket(config) => {
                let config = BucketConfig {
                    endpoint: None,
                    region: None,
                    ..config.clone()
                };
                format!("`{}`", config.url())
            }
        }
    }

    /// As `--to` takes it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Folder => LOCAL.to_owned(),
            Self::Bucket(config) => config.url(),
        }
    }
}

/// A location, who named it, and the keys that were named with it.
#[derive(Clone)]
struct Choice {
    location: Location,
    by: Option<DeclaredBy>,
    keys: Option<BucketKeys>,
}

/// The stores of a project.
#[derive(Clone)]
pub(super) struct Stores {
    root: PathBuf,
    environment: Environment,
    redactor: Redactor,
    lease: Duration,
    /// Ends all waiting for a bucket.
    stop: CancellationToken,
}

impl Stores {
    /// Those of the project in `folder`. Nothing is read or made.
    pub(super) fn new(
        context: &Context,
        environment: &Environment,
        folder: &Path,
    ) -> Result<Self, CliError> {
        Ok(Self {
            root: folder.join(super::wiring::STATE_FOLDER),
            lease: lock_ttl(environment)?,
            environment: environment.clone(),
            redactor: context.redactor.clone(),
            stop: context.cancel.hard.clone(),
        })
    }

    /// The project's folder as a store.
    pub(super) fn files(&self) -> SharedStore {
        Arc::new(FileStore::new(&self.root).with_ttl(self.lease))
    }

    /// The store for everything that goes by state alone: each application's own.
    pub(super) fn all(&self) -> Result<SharedStore, CliError> {
        let remembered = memory::all(&self.root)?;
        let wanted = self.wanted()?;
        let mut routes = Vec::new();
        for (app, found) in remembered {
            let route = match self.ignored(&app, wanted.as_ref(), Some(&found)) {
                Some(stores) => Route::Refused(stores),
                None => self.route(&self.weigh(None, wanted.clone(), Some(found)))?,
            };
            routes.push((app, route));
        }
        let others = match &wanted {
            Some(choice) => self.route(choice)?,
            None => Route::Store(self.files()),
        };
        Ok(Arc::new(Routed::new(self.files(), routes, others)))
    }

    /// Where the state of an application is, without a script.
    pub(super) fn location(&self, app: &AppName) -> Result<Location, CliError> {
        Ok(self
            .weigh(None, self.wanted()?, memory::read(&self.root, app)?)
            .location)
    }

    /// The store that has the state of an application, whatever else the environment names: for the command that brings it
    /// somewhere else.
    pub(super) fn own(&self, app: &AppName) -> Result<(Location, SharedStore), CliError> {
        let choice = self.weigh(None, self.wanted()?, memory::read(&self.root, app)?);
        match self.route(&choice)? {
            Route::Store(store) => Ok((choice.location, store)),
            Route::Closed(label) => Err(routed::closed(&label).into()),
            Route::Refused(stores) => Err(StateError::OtherStore(stores).into()),
        }
    }

    /// The store that runs refuse `to` for, as it is ahead there: that which is remembered, else the folder.
    pub(super) async fn ahead_of(
        &self,
        app: &AppName,
        to: &Location,
        store: &SharedStore,
    ) -> Result<Option<(Location, SharedStore)>, CliError> {
        let location = memory::read(&self.root, app)?
            .map_or(Location::Folder, |remembered| remembered.location());
        let choice = Choice {
            location,
            by: None,
            keys: None,
        };
        if choice.location == *to {
            return Ok(None);
        }
        let Route::Store(left) = self.route(&choice)? else {
            return Ok(None);
        };
        for stage in left.all_stages(app).await? {
            let here = match version(&left, &stage).await {
                Err(StateError::Moved { .. }) | Ok(None) => continue,
                Err(error) => return Err(error.into()),
                Ok(Some(here)) => here,
            };
            let there = version(store, &stage).await?;
            if there.is_none_or(|there| there.0 == here.0 && there.1 < here.1) {
                return Ok(Some((choice.location, left)));
            }
        }
        Ok(None)
    }

    /// What the environment asks for in vain: a command brought the state elsewhere. A script that declares its store counts
    /// more than either, and is no such case.
    pub(super) fn ignored_for(&self, app: &AppName) -> Result<Option<Box<OtherStore>>, CliError> {
        let remembered = memory::read(&self.root, app)?;
        Ok(self.ignored(app, self.wanted()?.as_ref(), remembered.as_ref()))
    }

    fn ignored(
        &self,
        app: &AppName,
        wanted: Option<&Choice>,
        remembered: Option<&Remembered>,
    ) -> Option<Box<OtherStore>> {
        let wanted = &wanted?.location;
        let place = remembered
            .filter(|found| found.by == DeclaredBy::Command)?
            .location();
        (place != *wanted).then(|| {
            Box::new(OtherStore {
                app: app.clone(),
                variable: match self.environment.get(STORE_VARIABLE) {
                    Some(_) => STORE_VARIABLE,
                    None => BUCKET_VARIABLE,
                },
                named: wanted.label(),
                named_url: wanted.url(),
                place: place.label(),
                place_url: place.url(),
            })
        })
    }

    /// The store for a run of a script. Refuses one other than where the state is.
    pub(super) async fn for_run(
        &self,
        stage: &StagePath,
        declared: Option<&StoreDeclaration>,
    ) -> Result<(SharedStore, Chosen), CliError> {
        let app = &stage.app;
        let declared = declared.map(|found| self.declared(found)).transpose()?;
        let remembered = memory::read(&self.root, app)?;
        let wanted = self.wanted()?;
        let is_test = stage.stage.test_parts().is_some();
        if !is_test
            && declared.is_none()
            && let Some(stores) = self.ignored(app, wanted.as_ref(), remembered.as_ref())
        {
            return Err(StateError::OtherStore(stores).into());
        }
        let choice = self.weigh(declared, wanted, remembered.clone());
        let route = self.route(&choice)?;
        if !is_test {
            self.check_move(stage, &choice, &route, remembered.as_ref())
                .await?;
        }
        let is_new = remembered
            .as_ref()
            .is_none_or(|found| found.location() != choice.location || Some(found.by) != choice.by);
        let chosen = Chosen {
            root: self.root.clone(),
            app: app.clone(),
            remember: match (&choice.location, choice.by) {
                (Location::Bucket(config), Some(by)) if is_new => {
                    Some(Remembered::new(app, config.clone(), by))
                }
                _ => None,
            },
        };
        let others = Route::Store(self.files());
        let routes = vec![(app.clone(), route)];
        let store = Routed::new(self.files(), routes, others);
        Ok((Arc::new(store), chosen))
    }

    /// A store by its address: `s3://bucket/prefix`, `r2://bucket`, `local`.
    pub(super) fn named(&self, url: &str) -> Result<(Location, SharedStore), CliError> {
        // Given on the command line; the address of a declared store is no mistake in that.
        let is_folder = matches!(url, LOCAL | "file" | ".alchemy");
        if !is_folder && let Err(error) = BucketConfig::parse(url) {
            return Err(CliError::usage(error.to_string()).with_help(
                "a store is `local`, `s3://bucket/prefix?endpoint=URL&region=NAME`, or `r2://bucket/prefix`",
            ));
        }
        let location = self.parse(url)?;
        let choice = Choice {
            location: location.clone(),
            by: None,
            keys: None,
        };
        match self.route(&choice)? {
            Route::Store(store) => Ok((location, store)),
            Route::Closed(label) => Err(routed::closed(&label).into()),
            Route::Refused(stores) => Err(StateError::OtherStore(stores).into()),
        }
    }

    /// Remembers where an application's state is from now on.
    pub(super) fn move_to(&self, app: &AppName, location: &Location) -> Result<(), CliError> {
        match location {
            Location::Folder => memory::forget(&self.root, app),
            Location::Bucket(config) => memory::write(
                &self.root,
                &Remembered::new(app, config.clone(), DeclaredBy::Command),
            ),
        }
    }

    fn weigh(
        &self,
        script: Option<Choice>,
        environment: Option<Choice>,
        remembered: Option<Remembered>,
    ) -> Choice {
        let remembered = remembered.map(|found| Choice {
            location: found.location(),
            by: Some(found.by),
            keys: None,
        });
        let by_environment = |choice: &Choice| choice.by == Some(DeclaredBy::Environment);
        let (weak, strong) = match remembered {
            Some(choice) if by_environment(&choice) => (Some(choice), None),
            other => (None, other),
        };
        script
            .or(strong)
            .or(environment)
            .or(weak)
            .unwrap_or(Choice {
                location: Location::Folder,
                by: None,
                keys: None,
            })
    }

    fn variable(&self, names: &[&str]) -> Option<String> {
        let mut found = names.iter().filter_map(|name| self.environment.get(name));
        found.next().map(str::to_owned)
    }

    /// What the environment asks for.
    fn wanted(&self) -> Result<Option<Choice>, CliError> {
        let location = match self.environment.get(STORE_VARIABLE) {
            Some(url) => self
                .parse(url)
                .map_err(|error| error.with_note("from `$ALCHEMY_STATE_STORE`"))?,
            None => {
                let complete = ["R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"]
                    .iter()
                    .all(|name| self.environment.get(name).is_some());
                match self.environment.get(BUCKET_VARIABLE) {
                    Some(bucket) if complete => self
                        .parse(&format!("r2://{bucket}"))
                        .map_err(|error| error.with_note("from `$R2_BUCKET_NAME`"))?,
                    _ => return Ok(None),
                }
            }
        };
        Ok(Some(Choice {
            location,
            by: Some(DeclaredBy::Environment),
            keys: None,
        }))
    }

    fn parse(&self, url: &str) -> Result<Location, CliError> {
        if matches!(url, LOCAL | "file" | ".alchemy") {
            return Ok(Location::Folder);
        }
        let config = BucketConfig::parse(url).map_err(|error| config_error(&error))?;
        self.complete(config, url.starts_with("r2://"), None)
            .map(Location::Bucket)
    }

    fn declared(&self, declared: &StoreDeclaration) -> Result<Choice, CliError> {
        let config = BucketConfig {
            bucket: declared.bucket.clone(),
            prefix: declared
                .prefix
                .as_deref()
                .unwrap_or_default()
                .trim_matches('/')
                .to_owned(),
            endpoint: declared.endpoint.clone(),
            region: match declared.r2 {
                true => Some("auto".to_owned()),
                false => declared.region.clone(),
            },
        };
        config.check().map_err(|problem| {
            CliError::new(codes::BUCKET, format!("`stateStore`: {problem}"))
                .with_help("correct it where `alchemy(..)` is called")
        })?;
        let config = self.complete(config, declared.r2, declared.account_id.as_deref())?;
        let keys = match (&declared.access_key_id, &declared.secret_access_key) {
            (Some(id), Some(secret)) => Some(BucketKeys {
                access_key_id: id.to_string(),
                secret_access_key: secret.clone(),
                session_token: None,
            }),
            (None, None) => None,
            _ => {
                return Err(CliError::new(
                    codes::BUCKET,
                    "`stateStore` names one of `accessKeyId` and `secretAccessKey`",
                )
                .with_help("give both, or neither and set the variables of the environment"));
            }
        };
        Ok(Choice {
            location: Location::Bucket(config),
            by: Some(DeclaredBy::Script),
            keys,
        })
    }

    /// Adds what the environment says of endpoint and region.
    fn complete(
        &self,
        mut config: BucketConfig,
        r2: bool,
        account: Option<&str>,
    ) -> Result<BucketConfig, CliError> {
        if config.endpoint.is_none() && r2 {
            let account = account
                .map(str::to_owned)
                .or_else(|| self.variable(&["R2_ACCOUNT_ID", "CLOUDFLARE_ACCOUNT_ID"]));
            let endpoint = self
                .variable(&["R2_ENDPOINT"])
                .or_else(|| Some(format!("https://{}.r2.cloudflarestorage.com", account?)));
            config.endpoint = Some(endpoint.ok_or_else(|| {
                CliError::new(
                    codes::BUCKET,
                    format!(
                        "it is not known whose R2 has the bucket `{}`",
                        config.bucket
                    ),
                )
                .with_help("set `CLOUDFLARE_ACCOUNT_ID`, or name `accountId` or `endpoint`")
            })?);
        } else if config.endpoint.is_none() {
            config.endpoint = self.variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        }
        if config.region.is_none() {
            config.region = self.variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
        }
        Ok(config)
    }

    /// The keys that the environment has for a bucket.
    fn keys(&self, config: &BucketConfig) -> Option<BucketKeys> {
        let pair = |prefix: &str| {
            Some((
                self.variable(&[&format!("{prefix}_ACCESS_KEY_ID")])?,
                self.variable(&[&format!("{prefix}_SECRET_ACCESS_KEY")])?,
            ))
        };
        let is_r2 = config.region.as_deref() == Some("auto");
        let aws = pair("AWS").map(|keys| (keys, self.variable(&["AWS_SESSION_TOKEN"])));
        let r2 = pair("R2").map(|keys| (keys, None));
        let ((id, secret), token) = match is_r2 {
            true => r2.or(aws)?,
            false => aws?,
        };
        Some(BucketKeys {
            access_key_id: id,
            secret_access_key: Zeroizing::new(secret),
            session_token: token.map(Zeroizing::new),
        })
    }

    fn route(&self, choice: &Choice) -> Result<Route, CliError> {
        let config = match &choice.location {
            Location::Folder => return Ok(Route::Store(self.files())),
            Location::Bucket(config) => config,
        };
        let Some(keys) = choice.keys.clone().or_else(|| self.keys(config)) else {
            return Ok(Route::Closed(config.url()));
        };
        self.redactor.add(&keys.secret_access_key);
        if let Some(token) = &keys.session_token {
            self.redactor.add(token);
        }
        let client = config
            .client(&keys, self.lease)
            .map_err(|error| config_error(&error))?;
        let prefix = config.prefix().map_err(|error| config_error(&error))?;
        let store = BucketStore::new(client, &config.label(), prefix)
            .with_ttl(self.lease)
            .stopped_by(self.stop.clone())
            .keeping_in(&self.root);
        Ok(Route::Store(Arc::new(store)))
    }

    /// Refuses a store where the state is not: it would be taken for a stage that was never deployed.
    async fn check_move(
        &self,
        stage: &StagePath,
        choice: &Choice,
        route: &Route,
        remembered: Option<&Remembered>,
    ) -> Result<(), CliError> {
        let elsewhere = |place: &Location, why: &str| {
            let (place, here) = (place.label(), choice.location.label());
            let message = match why {
                "not in" => format!("state of {} is in {place}, {why} {here}", stage.app),
                REMOVED => format!("{stage} was removed in {place}, {why} {here}"),
                _ => format!("state of {stage} is in {place}, {why} {here}"),
            };
            CliError::new(codes::OTHER_STORE, message)
                .with_note("nothing was changed")
                .with_help(format!(
                    "bring it over: `alch state migrate-store --app {} --to \"{}\"`",
                    stage.app,
                    choice.location.url()
                ))
        };
        match remembered.map(Remembered::location) {
            Some(before) if before == choice.location => Ok(()),
            Some(before) => {
                let old = self.route(&Choice {
                    location: before.clone(),
                    by: None,
                    keys: choice.keys.clone(),
                })?;
                let stages = match &old {
                    Route::Store(store) => {
                        not_moved(store, &stage.app, &choice.location.url()).await
                    }
                    Route::Closed(label) => Err(routed::closed(label)),
                    Route::Refused(stores) => Err(StateError::OtherStore(stores.clone())),
                };
                match stages {
                    Ok(stages) if stages.is_empty() => match (&old, route) {
                        (Route::Store(old), Route::Store(store)) => {
                            match is_removed_since(old, store, stage).await? {
                                true => Err(elsewhere(&before, REMOVED)),
                                false => Ok(()),
                            }
                        }
                        _ => Ok(()),
                    },
                    Ok(_) => Err(elsewhere(&before, "not in")),
                    Err(error) => Err(CliError::from(error).with_help(format!(
                        "where that store is gone for good, remove `{}`",
                        memory::path(&self.root, &stage.app).display()
                    ))),
                }
            }
            None => {
                let (Location::Bucket(_), Route::Store(store)) = (&choice.location, route) else {
                    return Ok(());
                };
                let files = self.files();
                let local = match files.load(stage).await {
                    // It was brought away from here: to this store, or to where it was brought again from there.
                    Err(StateError::Moved { to, .. }) if to == choice.location.url() => {
                        return Ok(());
                    }
                    Err(error @ StateError::Moved { .. }) => {
                        return match version(store, stage).await? {
                            Some(_) => Ok(()),
                            None => Err(error.into()),
                        };
                    }
                    Err(error) => return Err(error.into()),
                    Ok(None) => {
                        return match is_removed_since(&files, store, stage).await? {
                            true => Err(elsewhere(&Location::Folder, REMOVED)),
                            false => Ok(()),
                        };
                    }
                    Ok(Some(local)) => local,
                };
                if local.is_empty() {
                    return Ok(());
                }
                match store.load(stage).await? {
                    None => match store.removed(stage).await? {
                        // The copy here is older than that.
                        Some(removed)
                            if removed.lineage == local.lineage
                                && removed.serial > local.serial =>
                        {
                            Ok(())
                        }
                        _ => Err(elsewhere(&Location::Folder, "and not in")),
                    },
                    Some(there)
                        if there.lineage == local.lineage && there.serial < local.serial =>
                    {
                        Err(elsewhere(&Location::Folder, "newer than in"))
                    }
                    Some(_) => Ok(()),
                }
            }
        }
    }
}

/// How far a store knows a stage to have come: the lineage and the serial of its state, or of its removal.
async fn version(
    store: &SharedStore,
    stage: &StagePath,
) -> Result<Option<(String, u64)>, StateError> {
    if let Some(state) = store.load(stage).await? {
        return Ok(Some((state.lineage, state.serial)));
    }
    let removed = store.removed(stage).await?;
    Ok(removed.map(|removed| (removed.lineage, removed.serial)))
}

/// Whether a stage was removed in one store, and what another has of it is older than that.
async fn is_removed_since(
    left: &SharedStore,
    store: &SharedStore,
    stage: &StagePath,
) -> Result<bool, StateError> {
    let Some(removed) = left.removed(stage).await? else {
        return Ok(false);
    };
    let there = version(store, stage).await?;
    Ok(
        there
            .is_some_and(|(lineage, serial)| lineage == removed.lineage && serial < removed.serial),
    )
}

/// The stages of an application but for the copies that a move to the store at `address` left.
async fn not_moved(
    store: &SharedStore,
    app: &AppName,
    address: &str,
) -> Result<Vec<StagePath>, StateError> {
    let mut out = Vec::new();
    for stage in store.stages(app).await? {
        match store.load(&stage).await {
            Err(StateError::Moved { to, .. }) if to == address => {}
            _ => out.push(stage),
        }
    }
    Ok(out)
}

/// What is to be remembered once a run has begun.
pub(super) struct Chosen {
    root: PathBuf,
    app: AppName,
    remember: Option<Remembered>,
}

impl Chosen {
    /// Remembers the bucket of a run that changes something.
    pub(super) fn remember(self) -> Result<(), CliError> {
        let Some(remembered) = self.remember else {
            return Ok(());
        };
        tracing::debug!(app = %self.app, "the bucket is remembered");
        memory::write(&self.root, &remembered)
    }
}

fn config_error(error: &ConfigError) -> CliError {
    CliError::new(codes::BUCKET, error.to_string()).with_help(
        "an address is `s3://bucket/prefix?endpoint=URL&region=NAME`, or `r2://bucket/prefix`",
    )
}
