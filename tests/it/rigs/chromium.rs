//! Chromium without a window, spoken to over a pipe in its own protocol (Chrome DevTools Protocol):
//! one JSON object a message, each ended by a zero byte.
//!
//! A command line alone will not do: a window of Chromium is never narrower than 500 pixels, and dark
//! cannot be asked for. The protocol gives a screen of any width, both colour schemes, and every
//! request the page makes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// Only a hung browser takes longer to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub(crate) struct Chromium {
    child: Child,
    stdin: ChildStdin,
    messages: Receiver<Value>,
    profile: std::path::PathBuf,
    session: String,
    last_id: u64,
    events: Vec<Value>,
}

impl Chromium {
    /// Starts it; `None` where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let program =
            ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
                let version = Command::new(name).arg("--version").stderr(Stdio::null()).output();
                version.is_ok_and(|version| version.status.success())
            })?;
        // A profile serves one browser at a time.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringest-chromium-{}-{number}", std::process::id());
        let profile = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // The pipes of the protocol are descriptors 3 and 4; what it prints goes nowhere.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>&1", "sh", program])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--remote-debugging-pipe", "--hide-scrollbars", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, messages) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::Builder::new()
            .name("chromium".into())
            .spawn(move || {
                for message in BufReader::new(stdout).split(0) {
                    let Ok(message) = message else { return };
                    if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                        return;
                    }
                }
            })
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut browser = Self {
            child,
            stdin,
            messages,
            profile,
            session: String::new(),
            last_id: 0,
            events: Vec::new(),
        };
        let target = browser.ask("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.ask("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        browser.ask("Page.enable", &json!({}));
        browser.ask("Network.enable", &json!({}));
        Some(browser)
    }

    /// Sends a command and waits for its result.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.stdin.write_all(&bytes).unwrap();
        loop {
            let answer = self.next(method);
            if answer["id"] == json!(self.last_id) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn next(&self, waiting_for: &str) -> Value {
        let message = self.messages.recv_timeout(PATIENCE);
        message.unwrap_or_else(|error| panic!("no answer to {waiting_for}: {error}"))
    }

    /// Opens `url` on a screen of `width`, and gives what was requested on the way.
    pub(crate) fn open(&mut self, url: &str, width: u32, dark: bool) -> Vec<String> {
        self.events.clear();
        let screen =
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.ask("Emulation.setDeviceMetricsOverride", &screen);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.ask("Emulation.setEmulatedMedia", &media);
        self.ask("Page.navigate", &json!({"url": url}));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.next("the page");
            self.events.push(event);
        }
        let sent = self.events.iter().filter(|e| e["method"] == "Network.requestWillBeSent");
        sent.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// Runs `script` in the page; it gives a value, or a promise of one.
    pub(crate) fn run(&mut self, script: &str) -> Value {
        let ask = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let result = self.ask("Runtime.evaluate", &ask);
        assert!(result["exceptionDetails"].is_null(), "{}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Returns the whole page as PNG, in base64.
    pub(crate) fn screenshot(&mut self) -> String {
        let ask = json!({"format": "png", "captureBeyondViewport": true});
        self.ask("Page.captureScreenshot", &ask)["data"].as_str().unwrap().to_owned()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Asked first, so that its helpers end with it and let go of the profile; a test that failed
        // may have left it in any state, so then it is killed.
        let _ = self.stdin.write_all(b"{\"id\": 0, \"method\": \"Browser.close\"}\0");
        while self.messages.recv_timeout(Duration::from_secs(5)).is_ok() {}
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
