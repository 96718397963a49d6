//! The printing thread: one bounded channel in, the standard streams and the `--json-into` file out.
//!
//! Everything that leaves the process as text goes through `Output`, and there through the redactor. A reader
//! that goes away (`| head`) ends the output quietly and not the run.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use anstream::AutoStream;
use serde_json::{Value as Json, json};

use crate::{
    engine::{Event, EventSink},
    model::Diagnostic,
    secret::Redactor,
    ui::{
        diff::Detail,
        ndjson,
        plain::{Line, Plain, PlainOptions, Stream, Verbosity},
        run_log::{LogPath, RunLog},
        summary::{Explain, unhandled},
    },
    util::{clock::Clock, fs::FsError},
};

/// Messages that may wait for the printing thread; the engine is held back beyond that.
const CHANNEL: usize = 4_096;

/// Text is collected up to this many bytes while more messages are waiting.
const BATCH: usize = 64 * 1024;

/// What errors call the standard output.
const OUTPUT: &str = "the output";

/// How the face looks.
#[derive(Clone)]
pub struct UiOptions {
    /// NDJSON on stdout instead of text.
    pub json: bool,
    /// NDJSON into a file besides.
    pub json_into: Option<PathBuf>,
    /// How much is said.
    pub verbosity: Verbosity,
    /// How much of a plan is shown.
    pub detail: Detail,
    /// Width of the terminal, where known.
    pub width: Option<usize>,
    /// Whether a live line is allowed on a terminal.
    pub live: bool,
    /// Replaces secrets in everything that leaves.
    pub redactor: Redactor,
    /// How failures are explained.
    pub explain: Explain,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl UiOptions {
    fn is_live(&self) -> bool {
        self.live && !self.json && io::stderr().is_terminal()
    }
}

enum Message {
    Event(Box<Event>),
    Diagnostic(Box<Diagnostic>),
    Text(Line),
    Quieten,
    Log(LogPath),
    Result(Box<ResultMessage>),
    Flush(SyncSender<()>),
    Finish(Option<Ending>),
}

/// An exit as programs are told it: its number and its word.
pub type ExitTold = (u8, &'static str);

/// How the program ends, for programs.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// Its exit when everything that it says arrives.
    pub exit: ExitTold,
    /// Its exit when the `--json-into` file could not be written.
    pub unwritten: ExitTold,
}

/// Output that could not be written.
#[derive(Debug)]
pub struct Unwritten {
    /// What: `the output`, or the file.
    pub what: String,
    /// Why not.
    pub error: io::Error,
}

struct ResultMessage {
    kind: &'static str,
    fields: Json,
    text: String,
}

/// The face of one invocation.
pub struct Ui {
    sender: SyncSender<Message>,
    thread: Mutex<Option<JoinHandle<Vec<Unwritten>>>>,
    json: bool,
    wants_unchanged: bool,
    wants_hints: bool,
}

impl Ui {
    /// Starts the printing thread.
    ///
    /// # Errors
    /// [`FsError`] when the `--json-into` file cannot be made, or the thread cannot be started.
    pub fn start(options: UiOptions) -> Result<Arc<Self>, FsError> {
        let json = options.json;
        // Programs are told, and people who asked for it; a live line counts what is done.
        let wants_unchanged = json
            || options.json_into.is_some()
            || options.verbosity == Verbosity::Verbose
            || options.is_live();
        let wants_hints = options.verbosity != Verbosity::Quiet && (json || options.is_live());
        let (sender, receiver) = sync_channel(CHANNEL);
        let printer = Printer::new(options)?;
        let thread = std::thread::Builder::new()
            .name("alch-ui".to_owned())
            .spawn(move || printer.run(&receiver))
            .map_err(|source| FsError::new("start the thread of", Path::new("ui"), source))?;
        Ok(Arc::new(Self {
            sender,
            thread: Mutex::new(Some(thread)),
            json,
            wants_unchanged,
            wants_hints,
        }))
    }

    fn send(&self, message: Message) {
        // The thread ends only with `finish`; what comes after that has nobody to read it.
        self.sender.send(message).ok();
    }

    /// Whether stdout carries NDJSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether somebody is there who may want to know the next step: a person at a terminal, or a program. Logs are spared.
    #[must_use]
    pub fn wants_hints(&self) -> bool {
        self.wants_hints
    }

    /// A result of a command: text for people, fields for programs.
    pub fn result(&self, kind: &'static str, fields: Json, text: impl Into<String>) {
        self.send(Message::Result(Box::new(ResultMessage {
            kind,
            fields,
            text: text.into(),
        })));
    }

    /// A word on what goes on, to stderr.
    pub fn note(&self, text: impl Into<String>) {
        self.send(Message::Text(Line {
            stream: Stream::Err,
            text: text.into(),
        }));
    }

    /// Text to stdout as it is, also with `--json`: completions and the like.
    pub fn raw(&self, text: impl Into<String>) {
        self.send(Message::Text(Line {
            stream: Stream::Out,
            text: text.into(),
        }));
    }

    /// The script wants less said: from here on only results and problems, unless a flag says otherwise.
    pub fn quieten(&self) {
        self.send(Message::Quieten);
    }

    /// Keeps a log of every run that changes something.
    pub fn keep_logs(&self, path: LogPath) {
        self.send(Message::Log(path));
    }

    /// Shows a diagnostic.
    pub fn diagnostic(&self, diagnostic: Diagnostic) {
        self.send(Message::Diagnostic(Box::new(diagnostic)));
    }

    /// Waits until everything sent so far is written.
    pub fn flush(&self) {
        let (sender, receiver) = sync_channel(1);
        self.send(Message::Flush(sender));
        // An error means that the thread has ended, and then everything is written.
        receiver.recv().ok();
    }

    /// Writes what is left, says the exit code to programs, and ends the thread. Answers what could not be written.
    pub fn finish(&self, ending: Option<Ending>) -> Vec<Unwritten> {
        self.send(Message::Finish(ending));
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match thread.map(JoinHandle::join) {
            None => Vec::new(),
            Some(Ok(unwritten)) => unwritten,
            Some(Err(_)) => vec![Unwritten {
                what: OUTPUT.to_owned(),
                error: io::Error::other("the printing thread panicked"),
            }],
        }
    }
}

impl EventSink for Ui {
    fn emit(&self, event: Event) {
        self.send(Message::Event(Box::new(event)));
    }

    fn wants_unchanged(&self) -> bool {
        self.wants_unchanged
    }
}

/// The `--json-into` file. After the first line that it does not take, nothing more is written into it.
struct JsonFile {
    path: PathBuf,
    file: File,
    problem: Option<io::Error>,
}

impl JsonFile {
    fn write(&mut self, line: &str) {
        if self.problem.is_none() {
            let written = self.file.write_all(format!("{line}\n").as_bytes());
            self.problem = written.err();
        }
    }
}

struct Printer {
    options: UiOptions,
    plain: Plain,
    output: Output,
    json_into: Option<JsonFile>,
    log: RunLog,
    live: bool,
}

impl Printer {
    fn new(options: UiOptions) -> Result<Self, FsError> {
        let json_into = match &options.json_into {
            Some(path) => {
                let file =
                    File::create(path).map_err(|source| FsError::new("write", path, source))?;
                Some(JsonFile {
                    path: path.clone(),
                    file,
                    problem: None,
                })
            }
            None => None,
        };
        let live = options.is_live();
        let plain = Plain::new(PlainOptions {
            verbosity: options.verbosity,
            detail: options.detail,
            live,
            width: options.width,
            explain: Arc::clone(&options.explain),
        });
        let output = Output::new(options.redactor.clone());
        Ok(Self {
            options,
            plain,
            output,
            json_into,
            log: RunLog::default(),
            live,
        })
    }

    fn run(mut self, receiver: &Receiver<Message>) -> Vec<Unwritten> {
        let tick = if self.live {
            Duration::from_millis(100)
        } else {
            Duration::from_secs(1)
        };
        self.json(ndjson::version);
        let mut lines = Vec::new();
        loop {
            let message = match receiver.try_recv() {
                Ok(message) => message,
                Err(_) => {
                    self.idle();
                    match receiver.recv_timeout(tick) {
                        Ok(message) => message,
                        Err(RecvTimeoutError::Timeout) => {
                            if !self.options.json {
                                self.plain.tick(self.options.clock.monotonic(), &mut lines);
                            }
                            self.write(&mut lines);
                            continue;
                        }
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            };
            match message {
                Message::Flush(done) => {
                    self.output.flush();
                    // Nobody waiting any more is fine.
                    done.send(()).ok();
                }
                Message::Finish(ending) => {
                    if let Some(ending) = ending {
                        self.end(ending);
                    }
                    break;
                }
                other => self.take(other, &mut lines),
            }
            self.write(&mut lines);
        }
        self.plain.end(&mut lines);
        self.flush_log();
        self.write(&mut lines);
        self.output.clear_status();
        self.output.flush();
        let file = self.json_into.and_then(|file| {
            Some(Unwritten {
                what: format!("`{}`", file.path.display()),
                error: file.problem?,
            })
        });
        let output = self.output.problem.map(|error| Unwritten {
            what: OUTPUT.to_owned(),
            error,
        });
        file.into_iter().chain(output).collect()
    }

    /// The last message. The file gets it first, so that stdout can still say that the file is incomplete.
    fn end(&mut self, ending: Ending) {
        let line = |printer: &Self, (code, class): ExitTold| {
            let exit = json!({ "exit": { "code": code, "class": class } });
            let text = ndjson::line("exit", printer.options.clock.now(), exit);
            printer.options.redactor.redact(&text).into_owned()
        };
        let text = line(self, ending.exit);
        let log = self.log.line(&text);
        self.complain(log);
        let text = match &mut self.json_into {
            None => text,
            Some(file) => {
                file.write(&text);
                match file.problem {
                    None => text,
                    Some(_) => line(self, ending.unwritten),
                }
            }
        };
        if self.options.json {
            self.output.push_redacted(Stream::Out, &text);
        }
    }

    fn idle(&mut self) {
        self.flush_log();
        let status = self.plain.status(self.options.clock.monotonic());
        self.output.flush();
        if self.live {
            self.output.show_status(status.as_deref());
        }
    }

    fn take(&mut self, message: Message, lines: &mut Vec<Line>) {
        match message {
            Message::Event(event) => {
                let log = self.log.before(&event);
                self.complain(log);
                self.json(|at| ndjson::event(&event, at));
                if let Event::RunFinished(summary) = event.as_ref() {
                    for diagnostic in unhandled(summary, &self.options.explain) {
                        let fields = ndjson::diagnostic(&diagnostic);
                        self.json(|at| ndjson::line("diagnostic", at, fields));
                    }
                }
                if !self.options.json {
                    let now = self.options.clock.monotonic();
                    self.plain.event(&event, now, lines);
                }
            }
            Message::Diagnostic(diagnostic) => {
                let fields = ndjson::diagnostic(&diagnostic);
                self.json(|at| ndjson::line("diagnostic", at, fields));
                if !self.options.json {
                    self.plain.diagnostic(&diagnostic, lines);
                }
            }
            Message::Result(result) => {
                let ResultMessage { kind, fields, text } = *result;
                self.json(|at| ndjson::line(kind, at, fields));
                if !self.options.json {
                    lines.push(Line {
                        stream: Stream::Out,
                        text,
                    });
                }
            }
            Message::Text(line) => {
                if line.stream == Stream::Out || self.options.verbosity > Verbosity::Quiet {
                    lines.push(line);
                }
            }
            Message::Quieten => {
                if self.options.verbosity == Verbosity::Normal {
                    self.options.verbosity = Verbosity::Quiet;
                    self.plain.quieten();
                    self.live = false;
                }
            }
            Message::Log(path) => self.log.keep(path),
            Message::Flush(_) | Message::Finish(_) => {}
        }
    }

    /// Makes a message only when somebody reads it.
    fn json(&mut self, message: impl FnOnce(jiff::Timestamp) -> String) {
        if !self.options.json && self.json_into.is_none() && !self.log.is_on() {
            return;
        }
        let text = message(self.options.clock.now());
        let text = self.options.redactor.redact(&text).into_owned();
        let log = self.log.line(&text);
        self.complain(log);
        if self.options.json {
            self.output.push_redacted(Stream::Out, &text);
        }
        if let Some(file) = &mut self.json_into {
            file.write(&text);
        }
    }

    fn flush_log(&mut self) {
        let log = self.log.flush();
        self.complain(log);
    }

    /// A log that cannot be written is told once and keeps no run from its work.
    fn complain(&mut self, log: Result<(), FsError>) {
        if let Err(error) = log {
            let text = format!("alch: no log of this run: {error}: {}", error.source);
            self.output.push_redacted(Stream::Err, &text);
        }
    }

    fn write(&mut self, lines: &mut Vec<Line>) {
        for line in lines.drain(..) {
            self.output.push(line.stream, &line.text);
        }
    }
}

/// The standard streams, written in batches that keep the order between them.
struct Output {
    redactor: Redactor,
    stdout: Option<AutoStream<io::Stdout>>,
    stderr: Option<AutoStream<io::Stderr>>,
    pending: String,
    stream: Stream,
    status: bool,
    problem: Option<io::Error>,
}

impl Output {
    fn new(redactor: Redactor) -> Self {
        Self {
            redactor,
            stdout: Some(AutoStream::auto(io::stdout())),
            stderr: Some(AutoStream::auto(io::stderr())),
            pending: String::new(),
            stream: Stream::Err,
            status: false,
            problem: None,
        }
    }

    fn push(&mut self, stream: Stream, text: &str) {
        let text = self.redactor.redact(text).into_owned();
        self.push_redacted(stream, &text);
    }

    fn push_redacted(&mut self, stream: Stream, text: &str) {
        if stream != self.stream || self.pending.len() > BATCH {
            self.flush();
            self.stream = stream;
        }
        self.pending.push_str(text);
        self.pending.push('\n');
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        self.clear_status();
        let bytes = std::mem::take(&mut self.pending);
        match self.stream {
            Stream::Out => self.write_out(bytes.as_bytes()),
            Stream::Err => self.write_err(bytes.as_bytes()),
        }
    }

    fn write_out(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stdout else {
            return;
        };
        if let Err(error) = stream.write_all(bytes).and_then(|()| stream.flush()) {
            self.stdout = None;
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.problem = Some(error);
            }
        }
    }

    fn write_err(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stderr else {
            return;
        };
        if stream
            .write_all(bytes)
            .and_then(|()| stream.flush())
            .is_err()
        {
            // Nobody sees progress any more, and there is no other place to say so.
            self.stderr = None;
        }
    }

    fn show_status(&mut self, text: Option<&str>) {
        match text {
            Some(text) => {
                let text = self.redactor.redact(text).into_owned();
                self.write_err(format!("\r\x1b[2K{text}").as_bytes());
                self.status = true;
            }
            None => self.clear_status(),
        }
    }

    fn clear_status(&mut self) {
        if self.status {
            self.status = false;
            self.write_err(b"\r\x1b[2K");
        }
    }
}
