//! The switch's log: lines on standard error, for a person or for the journal; never from the path.
//!
//! Plain, a line is `TIME LEVEL TARGET: MESSAGE FIELDS`, without colour. Where standard error leads to the journal
//! (`JOURNAL_STREAM`, systemd.exec(5)), which keeps time itself, it is `<N>TARGET: MESSAGE FIELDS` with the priority of
//! sd-daemon(3) in front.
//!
//! A place in the program that logs again and again is cut short, each place by itself: of what it says within 10
//! seconds the first 5 lines appear, and later how many more there would have been. That line comes before the next one
//! from anywhere, once the spell is over, or when the log ends.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::stat::fstat;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts the log of this process at `level`; it ends with what is returned.
pub fn start(level: LevelFilter) -> Log {
    let stderr = fstat(io::stderr()).ok().map(|status| (status.st_dev, status.st_ino));
    let journal = leads_to_journal(env::var("JOURNAL_STREAM").ok().as_deref(), stderr);
    let lines = Lines { form: if journal { Form::Journal } else { Form::Plain }, repeats: Arc::default() };
    let subscriber = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_max_level(level);
    // A line that cannot be written is lost: the switch goes on, and has nowhere to say so.
    subscriber.log_internal_errors(false).event_format(lines.clone()).init();
    Log(lines)
}

/// The words for a level, as [`LevelFilter`] reads them.
pub const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A running log. When it is dropped, what was left out of it up to then is told.
#[derive(Debug)]
pub struct Log(Lines);

impl Drop for Log {
    fn drop(&mut self) {
        let mut text = String::new();
        let told = self.0.tell_left_out(&mut text, Instant::now() + SPELL);
        if told.is_ok() {
            // As above.
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }
}

/// Events as lines.
#[derive(Clone, Debug)]
struct Lines {
    form: Form,
    repeats: Arc<Mutex<Repeats>>,
}

impl Lines {
    fn line(&self, out: &mut impl fmt::Write, about: &Metadata<'_>, message: &str) -> fmt::Result {
        match self.form {
            Form::Journal => write!(out, "<{}>", priority(*about.level()))?,
            Form::Plain => {
                let mut time = String::new();
                SystemTime.format_time(&mut Writer::new(&mut time))?;
                write!(out, "{time} {:>5} ", about.level())?;
            }
        }
        writeln!(out, "{}: {message}", about.target())
    }

    fn tell_left_out(&self, out: &mut impl fmt::Write, now: Instant) -> fmt::Result {
        let over = self.repeats.lock().unwrap_or_else(PoisonError::into_inner).over(now);
        over.iter().try_for_each(|LeftOut { about, last, count }| {
            self.line(out, about, &format!("{count} more like this were left out: {last}"))
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Plain,
    Journal,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = Instant::now();
        self.tell_left_out(&mut out, now)?;
        let mut message = String::new();
        context.format_fields(Writer::new(&mut message), event)?;
        let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = repeats.admit(event.metadata(), &message, now);
        if admitted { self.line(&mut out, event.metadata(), &message) } else { Ok(()) }
    }
}

/// What each place in the program has said lately.
#[derive(Debug, Default)]
struct Repeats(BTreeMap<Place, Spell>);

/// File and line.
type Place = (&'static str, u32);

#[derive(Debug)]
struct Spell {
    about: &'static Metadata<'static>,
    began: Instant,
    lines: u32,
    left_out: u64,
    last: String,
}

/// What was left out of one spell.
#[derive(Debug)]
struct LeftOut {
    about: &'static Metadata<'static>,
    last: String,
    count: u64,
}

impl Repeats {
    /// Whether `about`'s place may say `message`.
    fn admit(&mut self, about: &'static Metadata<'static>, message: &str, now: Instant) -> bool {
        let place = (about.file().unwrap_or_default(), about.line().unwrap_or_default());
        let fresh = || Spell { about, began: now, lines: 0, left_out: 0, last: String::new() };
        let spell = self.0.entry(place).or_insert_with(fresh);
        if spell.lines < LINES_MAX {
            spell.lines += 1;
            return true;
        }
        spell.left_out += 1;
        spell.last.clear();
        spell.last.push_str(message);
        false
    }

    /// Ends the spells that are over by `now`: what was left out of each.
    fn over(&mut self, now: Instant) -> Vec<LeftOut> {
        let over = |spell: &Spell| now.saturating_duration_since(spell.began) >= SPELL;
        let ended = self.0.extract_if(.., |_, spell| over(spell));
        let left_out = ended.filter(|(_, spell)| spell.left_out > 0);
        left_out.map(|(_, Spell { about, last, left_out: count, .. })| LeftOut { about, last, count }).collect()
    }
}

/// Whether standard error, by its device and inode, is what systemd says it connected to the journal.
fn leads_to_journal(variable: Option<&str>, stderr: Option<(u64, u64)>) -> bool {
    let parsed = variable.and_then(|text| text.split_once(':'));
    let named = parsed.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    named.is_some() && named == stderr
}

/// The kernel's log levels (syslog(3)).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Lines of one place that appear in a spell.
const LINES_MAX: u32 = 5;
/// How long a spell lasts from its first line.
const SPELL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tracing::{error, info, warn};

    use super::*;

    /// What `work` logs.
    fn logged(form: Form, work: impl FnOnce()) -> (String, Lines) {
        let (text, log) = (Arc::new(Mutex::new(Vec::new())), Lines { form, repeats: Arc::default() });
        let writer = {
            let text = Arc::clone(&text);
            move || Shared(Arc::clone(&text))
        };
        let subscriber =
            tracing_subscriber::fmt().with_writer(writer).with_ansi(false).with_max_level(LevelFilter::INFO);
        tracing::subscriber::with_default(subscriber.event_format(log.clone()).finish(), work);
        let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        (text, log)
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_journal_gets_priorities_and_neither_time_nor_colour() {
        let (text, _) = logged(Form::Journal, || {
            error!("it broke");
            warn!(endpoint = "web-0", "forgotten");
            info!(socket = %"/run/x", "ready");
            tracing::debug!("unheard");
        });
        let target = module_path!();
        let lines = [
            format!("<3>{target}: it broke"),
            format!("<4>{target}: forgotten endpoint=\"web-0\""),
            format!("<6>{target}: ready socket=/run/x"),
        ];
        assert_eq!(text, lines.map(|line| line + "\n").concat());
    }

    #[test]
    fn a_plain_line_has_time_and_level() {
        let (text, _) = logged(Form::Plain, || info!("ready"));
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{text}");
        assert_eq!(rest, format!(" INFO {}: ready\n", module_path!()));
    }

    #[test]
    fn a_place_that_repeats_itself_is_cut_short_and_others_are_not() {
        let (text, log) = logged(Form::Journal, || {
            (0..LINES_MAX + 3).for_each(|pod| warn!(pod, "forgotten"));
            warn!("something else");
        });
        assert_eq!(text.matches("forgotten").count(), LINES_MAX as usize, "{text}");
        assert!(text.ends_with("something else\n") && !text.contains("left out"), "{text}");
        let mut later = String::new();
        log.tell_left_out(&mut later, Instant::now()).unwrap();
        assert_eq!(later, "", "the spell is not over");
        log.tell_left_out(&mut later, Instant::now() + SPELL).unwrap();
        assert_eq!(later, format!("<4>{}: 3 more like this were left out: forgotten pod=7\n", module_path!()));
        later.clear();
        log.tell_left_out(&mut later, Instant::now() + SPELL * 2).unwrap();
        assert_eq!(later, "", "it is told once");
    }

    #[test]
    fn after_a_spell_a_place_may_speak_again() {
        let (_, log) = logged(Form::Plain, || (0..LINES_MAX + 1).for_each(|_| warn!("again")));
        let mut repeats = log.repeats.lock().unwrap();
        let (about, began) = repeats.0.values().map(|spell| (spell.about, spell.began)).next().unwrap();
        assert!(!repeats.admit(about, "again", began + SPELL - Duration::from_nanos(1)));
        assert_eq!(repeats.over(began + SPELL).iter().map(|left| left.count).sum::<u64>(), 2);
        assert!(repeats.admit(about, "again", began + SPELL));
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        for (variable, stderr, expected) in [
            (Some("8:42"), Some((8, 42)), true),
            (Some("8:42"), Some((8, 43)), false),
            (Some("8:42"), None, false),
            (Some("nonsense"), Some((8, 42)), false),
            (None, Some((8, 42)), false),
            (None, None, false),
        ] {
            assert_eq!(leads_to_journal(variable, stderr), expected, "{variable:?} {stderr:?}");
        }
    }
}
