//! Chromium without a window, over its `DevTools` protocol, where it is installed.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// A browser with one page open.
pub(crate) struct Browser {
    process: Child,
    socket: WebSocket<TcpStream>,
    session: String,
    sent: u64,
    /// The addresses that the page asked for since it was opened, its own among them.
    pub(crate) requests: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it, if Chromium is installed.
    pub(crate) fn start() -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let spawned = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|program| {
            Command::new(program)
                .args([
                    "--headless=new",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--no-first-run",
                    "--remote-debugging-port=0",
                ])
                .args(["--disable-background-networking", "--disable-component-update", "--window-size=1000,900"])
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .ok()
        });
        let mut process = spawned?;
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("DevTools listening on ").map(str::to_owned));
        // What it says later is read, lest it wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.expect("Chromium says where it listens");
        let host = address.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let (socket, _) = tungstenite::client(&*address, TcpStream::connect(host).unwrap()).unwrap();
        let mut browser =
            Self { process, socket, session: String::new(), sent: 0, requests: vec![], _profile: profile };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        attached["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser.call("Network.enable", &json!({}));
        browser.call("Page.enable", &json!({}));
        Some(browser)
    }

    /// Opens a page and waits for an expression to be true.
    pub(crate) fn open(&mut self, address: &str, ready: &str) {
        self.requests.clear();
        self.call("Page.navigate", &json!({ "url": address }));
        self.wait(ready);
    }

    /// Opens a file.
    pub(crate) fn open_file(&mut self, path: &Path, ready: &str) {
        self.open(&format!("file://{}", path.display()), ready);
    }

    /// Waits for an expression to be true, looking again at every frame that the page draws.
    pub(crate) fn wait(&mut self, ready: &str) {
        let waiting = format!(
            "new Promise((done, failed) => {{ let left = 900; const look = () => ({ready}) ? done(true) : \
             left-- > 0 ? requestAnimationFrame(look) : failed(new Error('never ready')); look(); }})"
        );
        self.eval(&waiting);
    }

    /// The value of an expression, waited for if it is a promise.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let found = self.call("Runtime.evaluate", &params);
        assert!(found.get("exceptionDetails").is_none(), "`{expression}`: {}", found["exceptionDetails"]);
        found["result"]["value"].clone()
    }

    /// The text of the first element that a selector finds.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({}).textContent", json!(selector)));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Moves the pointer over an element, a share of its width and height from its corner.
    pub(crate) fn hover(&mut self, selector: &str, (along, down): (f64, f64)) {
        let place = format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{ block: 'center' }}); \
             const b = e.getBoundingClientRect(); return [b.left + b.width * {along}, b.top + b.height * {down}]; }})()",
            json!(selector)
        );
        let place = self.eval(&place);
        self.call("Input.dispatchMouseEvent", &json!({ "type": "mouseMoved", "x": place[0], "y": place[1] }));
    }

    /// Presses and releases a key: `ArrowRight`, `Tab` …
    pub(crate) fn press(&mut self, key: &str) {
        let code = match key {
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            "Tab" => 9,
            key => panic!("no code for `{key}`"),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Keeps what the page looks like among the outputs of the tests.
    pub(crate) fn keep_screenshot(&mut self, name: &str) {
        let shot = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
        std::fs::create_dir_all(&folder).unwrap();
        let bytes = STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    /// Lets the page be light or dark, on a screen or in print.
    pub(crate) fn emulate(&mut self, scheme: &str, medium: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "media": medium, "features": features }));
    }

    /// Calls a method and waits for its result; what the page asks for meanwhile is noted.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["method"] == "Network.requestWillBeSent" {
                self.requests.push(message["params"]["request"]["url"].as_str().unwrap().to_owned());
            }
            if message["id"] == self.sent {
                assert!(message.get("error").is_none(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It is ours and has nothing to lose.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
