//! Chromium, driven by the WebDriver protocol (<https://www.w3.org/TR/webdriver2/>) through the
//! `chromedriver` of its Debian package.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::{Head, exchange};
use crate::farm::{Process, http};
use crate::temp::TempDir;
use crate::wait;

/// A browser without a window. It ends with this.
pub struct Browser {
    driver: SocketAddr,
    /// `/session/ID`.
    session: String,
    _process: Process,
    _folder: TempDir,
}

/// How an element is named.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Browser {
    /// # Panics
    /// Where there is no Chromium.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments.
    pub fn start_with(more: &[&str]) -> Self {
        let folder = TempDir::new("browser");
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("TMPDIR", folder.path());
        let process = Process::start(command, "chromedriver", folder.path());
        let port: u16 = wait::some("chromedriver says its port", || {
            let said = process.stdout();
            let (_, port) = said.split_once("started successfully on port ")?;
            port.split('.').next()?.trim().parse().ok()
        });
        let driver = SocketAddr::from(([127, 0, 0, 1], port));
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"];
        let arguments = [&arguments, more].concat();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let answer = http::json(driver, "POST", "/session", &wanted.to_string());
        let id = answer["value"]["sessionId"].as_str().expect("a session");
        let session = format!("/session/{id}");
        Self { driver, session, _process: process, _folder: folder }
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        http::json(self.driver, method, &format!("{}{path}", self.session), &body)["value"].take()
    }

    /// A command of Chromium's own protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.ask("POST", "/goog/cdp/execute", &body)
    }

    /// Opens a page, and waits until it is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.ask("POST", "/url", &json!({ "url": url }));
    }

    #[track_caller]
    pub fn url(&self) -> String {
        self.ask("GET", "/url", &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// What a script in the page returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What is to be read in the first element that a CSS selector finds, or nothing.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let selector = json!(selector);
        let found = self.run(&format!(
            "const found = document.querySelector({selector}); return found && found.innerText"
        ));
        found.as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn find(&self, selector: &str) -> String {
        let asked = json!({ "using": "css selector", "value": selector });
        let found = self.ask("POST", "/element", &asked);
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    /// Clicks as a person does: the element has to be there to be seen, with nothing over it.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.ask("POST", &format!("/element/{element}/click"), &json!({}));
    }

    #[track_caller]
    pub fn fill(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.ask("POST", &format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// The cookies of this page, as the browser keeps them.
    #[track_caller]
    pub fn cookies(&self) -> Vec<Value> {
        self.ask("GET", "/cookie", &Value::Null).as_array().cloned().unwrap_or_default()
    }

    #[track_caller]
    pub fn add_cookie(&self, cookie: &Value) {
        self.ask("POST", "/cookie", &json!({ "cookie": cookie }));
    }

    /// Every request that was made since this was asked last.
    #[track_caller]
    pub fn requests(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", &json!({ "type": "performance" }));
        let lines = log.as_array().cloned().unwrap_or_default();
        let request = |line: &Value| {
            let event: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            let message = &event["message"];
            (message["method"] == "Network.requestWillBeSent").then_some(())?;
            message["params"]["request"]["url"].as_str().map(str::to_owned)
        };
        lines.iter().filter_map(request).collect()
    }

    /// What the console of the page has said since this was asked last.
    #[track_caller]
    pub fn console(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", &json!({ "type": "browser" }));
        let lines = log.as_array().cloned().unwrap_or_default();
        lines.iter().filter_map(|line| line["message"].as_str().map(str::to_owned)).collect()
    }

    /// Width in pixels, and whether the page is to be dark.
    #[track_caller]
    pub fn look_like(&self, width: u32, dark: bool) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// The whole page as a PNG.
    #[track_caller]
    pub fn picture(&self) -> Vec<u8> {
        let size = self.run("return [innerWidth, document.body.scrollHeight]");
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let wanted = json!({ "format": "png", "clip": clip, "captureBeyondViewport": true });
        let picture = self.devtools("Page.captureScreenshot", wanted);
        from_base64(picture["data"].as_str().expect("a picture"))
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for value in text.bytes().filter_map(value) {
        (bits, held) = (bits << 6 | u32::from(value), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends the browser; the driver is killed behind it.
        let end = Head::new("DELETE", &self.session).field("Host", self.driver);
        let _ = exchange(self.driver, &end.field("Connection", "close").with_body(b""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        assert_eq!(from_base64("YQ=="), b"a");
        assert_eq!(from_base64("aGVsbG8+/w=="), b"hello>\xff");
    }
}
