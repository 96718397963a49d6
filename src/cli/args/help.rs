//! What stands below the help of each command: examples, and what `alch trust` is about.

pub(super) const EXAMPLES: &str = "\
Examples:
  alch run                            deploy alchemy.run.rhai to stage `dev`
  alch plan --stage prod              show what a deploy to `prod` would change
  alch run --stage prod --target cloudflare
  alch destroy --stage pr-123         delete everything of a stage
  alch state ls                       list what is deployed

`alch help COMMAND` tells more; `alch help exit-codes` lists how alch ends.";

pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  alch run                                  alchemy.run.rhai, stage `dev`
  alch run infra/site.rhai --stage pr-123
  alch run --destroy --stage pr-123         also kinds that the script defines
  alch run --plan plan.json                 exactly what a saved plan showed
  alch run -- one two                       `arguments` of the script";

pub(super) const PLAN_EXAMPLES: &str = "\
Examples:
  alch plan --brief
  alch plan --out plan.json && alch run --plan plan.json
  alch plan --detailed-exitcode             exit code 2 when there are changes";

pub(super) const DESTROY_EXAMPLES: &str = "\
Examples:
  alch destroy --stage pr-123               asks before it deletes
  alch destroy --stage pr-123 --yes         for machines";

pub(super) const DRIFT_HELP: &str = "\
Looks by list calls, one a kind (or zone, bucket, queue) and page, and three calls a Worker, whose settings no list \
shows. It compares what state says with what is there: the object, its name, and the properties that the script \
declared, settings of buckets and values of KV namespaces too (a call a setting, or a hundred values). Of secrets \
only the name is compared, and of values that expire nothing when they are gone. It changes nothing, and ends with 7 \
when something differs. `alch run --refresh` looks, too, and then brings things to what the script says.

Examples:
  alch drift --stage prod
  alch drift --stage prod --repair
  alch drift --json";

pub(super) const IMPORT_HELP: &str = "\
The application is `--app`, that of alchemy.run.rhai in this folder, or the only one with state. The object is \
looked for by id, then by name (a secret of a store also as `STORE/NAME`), and is not touched. State marks it as \
adopted: a destroy keeps it. The printed lines belong into the script before the next run; they were planned, and \
the plan was empty.

The modules of a Worker are written into a new folder beside the script. Its secrets stay as they are \
(`keepBindings`): no call shows their values. A Worker with static assets or with Durable Object classes of its own \
is not imported, but taken over by `alch run` with `adopt: true`.

A secret that the lines need and no call shows (the password of a Hyperdrive configuration) is taken from the environment, under the name that the refusal \
says, and the lines read it there in every run. DnsRecords takes the records of a zone that no state has, by its \
domain or id, or those of one name in it.

Examples:
  alch import KV my-cache
  alch import Worker api
  alch import D1Database main-db storage/orders --stage prod
  alch import R2Bucket eu/files             a bucket of a jurisdiction
  alch import DnsRecords www.example.com
  KEY_VALUE=.. alch import Secret store/KEY
  POOL_PASSWORD=.. alch import Hyperdrive pool";

pub(super) const SCAN_HELP: &str = "\
The draft goes to stdout. Its lines have `adopt: true`, so that `alch run` takes the objects over; lines that lack \
something which no list shows are comments. Of a Worker the draft has the `alch import` to run, whose lines also \
declare what leads to it, or says why it cannot be imported. Secrets are read from the environment. Settings of \
zones and tunnels and the metadata indexes of Vectorize are not drafted, and stay as they are: `alch import` looks \
at each object, and prints them.

Examples:
  alch scan --target cloudflare > found.rhai
  alch scan --json";

pub(super) const LOGIN_HELP: &str = "\
The token is typed in without being shown, read from stdin, or taken from $CLOUDFLARE_API_TOKEN. It is checked, and \
kept in ~/.alchemy/credentials/PROFILE/cloudflare.json, readable for you alone. Make one at \
https://dash.cloudflare.com/profile/api-tokens with the permissions of what you deploy, such as `Workers Scripts: \
Edit`, `Workers KV Storage: Edit`, `D1: Edit`, `Workers R2 Storage: Edit`, `Queues: Edit`.

Examples:
  alch login
  alch login --profile work --token-stdin --account \"My Company\" < token
  alch login --base-url http://127.0.0.1:8788/client/v4 --token-stdin < token";

pub(super) const LOGOUT_EXAMPLES: &str = "\
Examples:
  alch logout
  alch logout --profile work";

pub(super) const CONFIGURE_EXAMPLES: &str = "\
Examples:
  alch configure                            shows the profile
  alch configure --target local             `alch run` stays here by itself
  alch configure --profile work --account 0123456789abcdef0123456789abcdef";

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  alch explain E0114
  alch explain Worker        what a Worker takes and gives
  alch explain";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  alch completions bash > ~/.local/share/bash-completion/completions/alch
  alch completions fish > ~/.config/fish/completions/alch.fish";

pub(super) const READ_EXAMPLES: &str = "\
Examples:
  alch read
  alch read --stage prod --json";

pub(super) const STAGES_EXAMPLES: &str = "\
Examples:
  alch stages
  alch stages --app shop";

pub(super) const CHECK_EXAMPLES: &str = "\
Examples:
  alch check
  alch check infra/site.rhai --json";

pub(super) const LS_EXAMPLES: &str = "\
Examples:
  alch state ls --stage prod
  alch state ls database             only that scope";

pub(super) const SHOW_EXAMPLES: &str = "\
Examples:
  alch state show database/main-db --stage prod";

pub(super) const MV_EXAMPLES: &str = "\
Examples:
  alch state mv main-db database/main-db
  alch state mv database storage     a whole scope";

pub(super) const RM_EXAMPLES: &str = "\
Examples:
  alch state rm database/main-db     asks before it forgets
  alch state rm database/main-db --yes";

pub(super) const SCOPE_LIST_EXAMPLES: &str = "\
Reads state alone, without a lock. A damaged stage is named and hides no other; the exit is 12 then.

Examples:
  alch scope list
  alch scope list --app shop";

pub(super) const INSPECT_EXAMPLES: &str = "\
Reads state alone, without a lock, also while a run is going on: what that has recorded so far counts.

Examples:
  alch scope inspect --stage prod";

pub(super) const SCOPE_STATE_EXAMPLES: &str = "\
Reads state alone, without a lock. No secret is printed, and no password is needed.

Examples:
  alch scope state --stage prod
  alch scope state database";

pub(super) const VALIDATE_EXAMPLES: &str = "\
Reads every file, or object, of the stage and lists all damage, not only the first; changes nothing. Exit 0 means \
that none was found, 12 that some was.

Examples:
  alch scope validate --stage prod
  alch scope validate --all";

pub(super) const LOCKS_EXAMPLES: &str = "\
Shows who holds which stage, for how long, and when they were last heard of. Whether a holder lives is known for \
this machine alone.

Examples:
  alch scope locks
  alch scope locks --app shop --stage prod";

pub(super) const UNLOCK_EXAMPLES: &str = "\
Refuses a holder that lives, or of which that is not known, unless `--force` is given (exit 75). A run that loses \
its lock so writes nothing more. It is seldom needed: the next run takes the lock of a dead one over by itself.

Examples:
  alch scope unlock --stage prod
  alch scope unlock --stage prod --force   also when the holder may live";

pub(super) const ROTATE_HELP: &str = "\
The old password is `ALCHEMY_PASSWORD`, the new one `ALCHEMY_NEW_PASSWORD`, both from the environment or an \
`--env-file`; on a terminal the new one is asked for. Each stage has all of the old key or all of the new one, whenever this is stopped; run it again to go on with the \
rest. So have test stages, and backups, one after the other; `--prune-backups` removes backups instead, and what \
repairs set aside. Afterwards nothing in the state folder opens with the old password; what could not be sealed anew \
is named. No object is touched, and the next run changes nothing.

Examples:
  ALCHEMY_NEW_PASSWORD=.. alch secrets rotate      every stage of the project
  ALCHEMY_NEW_PASSWORD=.. alch secrets rotate --stage prod
  ALCHEMY_NEW_PASSWORD=.. alch secrets rotate --prune-backups
  alch secrets rotate --env-file passwords.env
  alch secrets rotate --to-key-file                no password from now on";

pub(super) const BACKUPS_HELP: &str = "\
A backup is made of every checkpoint before the next one replaces it; the last ten are kept.

Examples:
  alch scope backups --stage prod";

pub(super) const RESTORE_HELP: &str = "\
Only state changes: no object is made, changed or deleted. The state that is replaced becomes a backup itself, and \
damaged files are kept among the backups, so nothing is lost by trying. `alch plan` then shows what differs from the \
script.

Examples:
  alch scope restore --stage prod           the newest backup that can be read
  alch scope restore --backup state-2026-01-15T10-30-00-000Z.json
  alch scope restore --backup exported.json --yes";

pub(super) const REBUILD_HELP: &str = "\
Takes, in this order: what is whole of the stage's files; records that only a backup has and whose object is still \
there; and objects of the script's resources that the provider finds by name and mark. Where the stage can be read, \
as after a reset, it stays as it is, and only what the script declares and the stage lacks is added in the same way. \
It makes, changes and deletes no object. What was found is set to what the script says by the next run.

Examples:
  alch scope rebuild --stage prod
  alch scope rebuild --stage prod --offline   without script and provider";

pub(super) const RESET_HELP: &str = "\
The stage is empty afterwards, as far as state knows. The objects stay, and `alch run --adopt` takes them over \
again; `alch scope restore` undoes it.

Examples:
  alch scope reset --stage pr-123";

pub(super) const CLEANUP_HELP: &str = "\
Never removes a record that state lists, nor the lock of a run that lives. Damaged backups and records of finished \
runs are set aside: they are kept in a folder `damaged-..` among the backups. That a stage was removed is kept in \
mind, so that an older copy of it in another store is not taken for its state, until a stage of that name is made \
anew or `--force` names it.

Examples:
  alch scope cleanup --all
  alch scope cleanup --stage prod --force";

pub(super) const SCOPE_LOGS_HELP: &str = "\
The log holds every event of a run, as `--json` prints them, and is kept with the stage.

Examples:
  alch scope logs --stage prod
  alch scope logs 01JH2Y6Q6X0000000000000000 --json";

pub(super) const HISTORY_EXAMPLES: &str = "\
Runs, destroys, and commands that put another state in place, newest first. The history outlives the stage.

Examples:
  alch state history --stage prod
  alch state history -n 100 --json";

pub(super) const STATE_DIFF_HELP: &str = "\
Compares two states, and asks no provider. No secret is printed, and no password is needed.

Examples:
  alch state diff --stage prod                         since the newest backup
  alch state diff state-2026-01-15T10-30-00-000Z.json now
  alch state diff before.json after.json";

pub(super) const EXPORT_HELP: &str = "\
The file has a checksum and fits a stage of the same name; its secrets open with the stage's key only.

Examples:
  alch state export --stage prod --out prod.json
  alch state import prod.json --stage prod";

pub(super) const STATE_IMPORT_HELP: &str = "\
Only state changes: no object is made, changed or deleted. A file of another project, or one that is older than the \
state it would replace, is refused unless `--force` is given.

Examples:
  alch state import prod.json --stage prod";

pub(super) const TRUST_HELP: &str = "\
A script may read and write its own folder. Programs, network hosts and other paths need permission: by the flags \
`--allow-exec`, `--allow-net`, `--allow-read`, `--allow-write`, or by alch.toml beside the script:

  [permissions]
  exec = [\"git\"]                 # or true; a shell command needs \"sh\"
  net = [\"api.example.com\"]
  read = [\"../shared\"]
  write = [\"../out\"]

Such a file may come with a script from someone else, so it counts only once you have read it and trusted it; a \
changed file has to be trusted again. Machines pass `--trust`, or the flags. Deleting asks for the same permissions \
as making.

Examples:
  alch trust
  alch trust infra
  alch trust --revoke";

pub(super) const SERVE_HELP: &str = "\
A Worker answers at http://NAME.localhost:PORT, where NAME is the name it was deployed with. `alch run` in the same \
project deploys into the same data, and the Worker reloads. The API answers clients that send the token. Ctrl-C \
stops.

Examples:
  alch local serve
  alch local serve --zone example.com
  alch local serve --account 0123456789abcdef0123456789abcdef
  alch local serve --port 0 --token mine --json";

pub(super) const TRIGGER_HELP: &str = "\
While `alch local serve` runs, it calls `scheduled` at the times of each Worker's `crons`, in UTC. This calls it at \
once, whether or not the Worker has that schedule, and waits for its end. A Worker with exactly one schedule needs \
no `--cron`.

Examples:
  alch local trigger worker
  alch local trigger worker --cron '0 2 * * *'";

pub(super) const LOGS_HELP: &str = "\
`alch local serve` keeps the console output, the exceptions and the outcome of each event, the newest few megabytes \
of them. Stacks name the places in the source where the Worker has a source map. When there are more than 200 events \
in a second, requests that were answered without a word are left out.

A Worker at Cloudflare is followed by a tail: `-f` shows what happens from then on, as nothing is kept there, and \
Ctrl-C removes the tail. A connection that breaks is made again.

Examples:
  alch logs
  alch logs api -f
  alch logs api --since 10m --json
  alch logs api -f --stage prod --status error
  alch logs some-worker -f --target cloudflare --grep timeout";

pub(super) const PREPARE_HELP: &str = "\
Workers run on Cloudflare's own workerd with the simulators that Miniflare publishes. Both are looked for in \
node_modules of the project and above, then in the user's cache folder; what is missing comes once through npm into \
that folder. Instead, $ALCH_WORKERD_PATH can name the workerd binary, and $ALCH_SIMULATORS_PATH the folder \
dist/src/workers of the miniflare package.

Workers in TypeScript, JSX or with npm packages are bundled by esbuild, which comes in the same way or is the binary \
that $ALCH_ESBUILD_PATH names. `alch run` uses the project's own in node_modules only with --allow-exec=esbuild: a \
program that came with a project is not run unasked.";

pub(super) const PUSH_HELP: &str = "\
Both stores are locked meanwhile. A stage is only replaced by a later state of the same history (same lineage, \
higher serial); --force replaces it all the same. What is replaced is kept aside.

Examples:
  alch state push --to \"s3://team-state/web?region=eu-west-1\" --stage prod
  alch state push --to r2://team-state --stage prod
  alch state push --to local         from the bucket in use into .alchemy";

pub(super) const PULL_HELP: &str = "\
Both stores are locked meanwhile. A stage is only replaced by a later state of the same history (same lineage, \
higher serial); --force replaces it all the same. What is replaced is kept aside.

Examples:
  alch state pull --from \"s3://team-state/web?region=eu-west-1\" --stage prod
  alch state pull --from local       from .alchemy into the bucket in use";

pub(super) const MIGRATE_HELP: &str = "\
Copies every stage with its history, one after the other under both locks, and then remembers the new store. Doing \
it again goes on where it was cut short. The old store keeps what it has.

Credentials of buckets are in the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or R2_ACCESS_KEY_ID and \
R2_SECRET_ACCESS_KEY.

Examples:
  alch state migrate-store --to \"s3://team-state/web?region=eu-west-1\"
  alch state migrate-store --to local --app shop";
