"""The launcher under every Python found, with its own server and, where it is installed, with gunicorn.

    python3 tests/launcher/test_launcher.py

Interpreters: `python2.7`, `python3` and `python3.6` to `python3.14` on PATH, and those named in LAUNCHER_PYTHONS
(paths with `:` between them). Each gets a class of tests of its own, named after it.
"""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LAUNCHER = os.path.join(ROOT, "src", "worker", "launcher.py")
DEMO = os.path.join(ROOT, "tests", "fixtures", "apps", "demo")
PATIENCE = 20  # seconds until something that should happen counts as not happening
ABOUT = ("import sys\ntry:\n    import gunicorn\n    found = gunicorn.__version__\nexcept ImportError:\n    found = ''\n"
         "print('%d.%d|%s' % (sys.version_info[0], sys.version_info[1], found))")

APP = '''
import json, os, threading, time
from wsgiref.validate import validator
EVENTS, ENDED = {}, []

def event(name):
    return EVENTS.setdefault(name, threading.Event())

def text(environ):
    return {key: value for key, value in environ.items() if isinstance(value, (str, bool))}

def answer(start_response, data):
    return plain(start_response, json.dumps(data).encode("utf-8"))

def plain(start_response, data):
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data]

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/environ":
        return answer(start_response, text(environ))
    if path == "/os":
        return answer(start_response, dict(os.environ))
    if path == "/set":
        os.environ["SET_BY_A_REQUEST"] = "yes"
        return answer(start_response, os.environ.get("SET_BY_A_REQUEST"))
    if path == "/overlap":  # waits for another request, then looks at its own environment
        event(environ["QUERY_STRING"] + "-there").set()
        event(environ["QUERY_STRING"] + "-go").wait(20)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(os.environ.get("HTTP_X_WHO")))
        thread.start()
        thread.join()
        return answer(start_response, [os.environ.get("HTTP_X_WHO"), seen[0]])
    if path == "/wait":
        event(environ["QUERY_STRING"]).wait(20)
        return answer(start_response, True)
    if path == "/file":
        open("began", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.02)
        return answer(start_response, True)
    if path == "/release":
        event(environ["QUERY_STRING"]).set()
        return answer(start_response, True)
    if path == "/echo":
        return plain(start_response, environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or -1)))
    if path == "/parts":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return parts()
    if path == "/breaks":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return breaks()
    if path == "/short":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "10")])
        return iter([b"short"])
    if path == "/long":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
        return iter([b"too ", b"long"])
    if path == "/write":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written, ")
        return [b"returned"]
    if path == "/304":
        start_response("304 Not Modified", [("ETag", '"x"')])
        return []
    if path == "/inject":
        start_response("200 OK", [("X-Bad", "a\\r\\nSet-Cookie: b")])
        return [b""]
    if path == "/raise":
        raise RuntimeError("asked to " + environ["QUERY_STRING"])
    if path == "/log":
        import logging
        logging.getLogger("app").warning("caf\\xe9 %s", "said")
        return answer(start_response, True)
    if path == "/callback":
        from google.appengine.ext.vmruntime import callback
        callback.SetRequestEndCallback(lambda request_id: ENDED.append(request_id))
        callback.SetRequestEndCallback(lambda request_id: 1 / 0)
        callback.SetRequestEndCallback(lambda request_id: ENDED.append("second"))
        return answer(start_response, list(ENDED))
    if path == "/ended":
        return answer(start_response, ENDED)
    if path == "/closed":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Closing()
    return answer(start_response, path)

class Closing(object):
    def __iter__(self):
        return iter([b"closing"])
    def close(self):
        ENDED.append("closed")

def parts():
    yield b"first"
    event("second").wait(20)
    yield b"second"

def breaks():
    yield b"first"
    raise RuntimeError("in the middle")

def strict(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"by the book"]
strict = validator(strict)

class Holder(object):
    app = staticmethod(app)
'''

CGI_PRINTS = '''
import os, sys
body = sys.stdin.read()
print("Status: 201 Created")
print("Content-Type: text/plain")
print("")
print("%s %s %s %s" % (os.environ["REQUEST_METHOD"], os.environ["QUERY_STRING"], body, __name__))
sys.exit(0)
'''
CGI_HANDS_OVER = '''
import sys
RUNS = []
def app(environ, start_response):
    RUNS.append(1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("run %%d" %% len(RUNS)).encode("ascii")]
def main():
    %s
if __name__ == "__main__":
    main()
'''
FILES = {
    "main.py": APP,
    "broken.py": "import there_is_no_such_module\n",
    "pkg/__init__.py": "", "pkg/sub/__init__.py": "", "pkg/sub/deep.py": "from main import app\n",
    "nothing.py": "app = 3\n",
    "lib/vendored.py": "NAME = 'vendored'\n",
    "lib/google/__init__.py": "", "lib/google/ours.py": "NAME = 'ours'\n",
    "uses_vendored.py": "import vendored\nfrom google import ours\nfrom main import answer\n"
                        "def app(environ, start_response):\n"
                        "    return answer(start_response, [vendored.NAME, ours.NAME])\n",
    "appengine_config.py": "from google.appengine.ext import vendor\nvendor.add('lib')\n"
                           "def webapp_add_wsgi_middleware(app):\n"
                           "    def wrapped(environ, start_response):\n"
                           "        environ['middleware'] = 'was here'\n"
                           "        return app(environ, start_response)\n"
                           "    return wrapped\n",
    "prints.py": CGI_PRINTS,
    "cgi/hands_over.py": CGI_HANDS_OVER % "from wsgiref.handlers import CGIHandler; CGIHandler().run(app)",
    "util.py": CGI_HANDS_OVER % "from google.appengine.ext.webapp.util import run_wsgi_app; run_wsgi_app(app)",
    "bare.py": CGI_HANDS_OVER % "from google.appengine.ext.webapp import util; util.run_bare_wsgi_app(app)",
}
SCRIPTS = ["main.app", "broken.app", "nothing.app", "pkg.sub.deep.app", "uses_vendored.app", "prints.py",
           "cgi/hands_over.py", "$PYTHON_LIB/util.py", "bare.py", "pages.\\1.app"]


def until(condition, what):
    deadline = time.time() + PATIENCE
    while time.time() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError("waited in vain: %s" % what)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        http.client.HTTPConnection.__init__(self, "localhost", timeout=PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


class Worker(object):
    """One launcher process and ways to talk to it."""

    def __init__(self, python, server, files=None, app_dir=None, unix=False, environment=(), **table):
        self.directory, self.told = tempfile.mkdtemp(prefix="launcher-"), False
        self.app_dir = app_dir or os.path.join(self.directory, "app")
        for name, source in (files or {}).items():
            path = os.path.join(self.app_dir, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(source)
        scripts = table.pop("scripts", ["main.app"])
        self.table = dict({
            "app_dir": self.app_dir, "runtime": "python27", "default": None, "threads": 25, "server": server,
            "handlers": [{"index": index, "url": "/.*", "script": script} for index, script in enumerate(scripts)],
            "env": {}, "vm": False, "warmup": False, "entrypoint": None}, **table)
        with open(os.path.join(self.directory, "table.json"), "w") as file:
            json.dump(self.table, file)
        self.log_path = os.path.join(self.directory, "stderr")
        self.socket_path = os.path.join(self.directory, "socket") if unix is True else unix
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", **dict(environment))
        if unix:
            env["COMPAT_PROXY_SOCKET"] = self.socket_path
        else:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            env["PORT"] = str(self.port)
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [python, LAUNCHER, os.path.join(self.directory, "table.json")], stderr=log, stdout=log, env=env)

    def connection(self):
        return UnixConnection(self.socket_path) if self.socket_path else http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=PATIENCE)

    def accepts(self):
        connection = self.connection()
        try:
            connection.connect()
            return True
        except OSError:
            if self.process.poll() is not None:
                raise AssertionError("the launcher ended: %s" % self.log())
            return False
        finally:
            connection.close()

    def accepts_still(self):
        try:
            return self.accepts()
        except AssertionError:
            return False  # it has ended

    def ready(self):
        until(self.accepts, "the launcher accepts")
        return self

    def ask(self, path="/", script="main.app", method="GET", body=None, headers=(), connection=None):
        """Status, headers (names in lower case) and body of one request."""
        used = connection or self.connection()
        given = dict({"X-Compat-Script": script, "X-Compat-Handler": "0"} if script else {}, **dict(headers))
        used.request(method, path, body=body, headers=given)
        response = used.getresponse()
        result = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        if connection is None:
            used.close()
        return result

    def json(self, *args, **options):
        return json.loads(self.ask(*args, **options)[2].decode("utf-8"))

    def raw(self, data):
        """The bytes that answer these bytes, until the launcher closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as sock:
            sock.sendall(data)
            answer = b""
            while True:
                more = sock.recv(65536)
                if not more:
                    return answer
                answer += more

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def logged(self, part):
        """The JSON log entry whose message holds `part`."""
        def entry():
            for line in self.log().splitlines():
                if line.startswith("{") and part in json.loads(line)["message"]:
                    return json.loads(line)
        return until(entry, "a log entry with %r in\n%s" % (part, self.log()))

    def terminate(self):
        if not self.told and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.told = True

    def stop(self):
        self.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            shutil.rmtree(self.directory)


class Either(object):
    """What must hold under both servers; a subclass for each Python and server is made at the end."""
    python = server = version = None

    @classmethod
    def setUpClass(cls):
        cls.worker = Worker(cls.python, cls.server, FILES, scripts=SCRIPTS, environment={
            "APPLICATION_ID": "s~demo", "COMPAT_PROXY_WORKER": "3", "GOOGLE_CLOUD_PROJECT": "project"},
            env={"FROM_YAML": "caf\u00e9", "USER_EMAIL": "yaml@example.com", "APPLICATION_ID": "yaml", "HTTP_X_WHO": "yaml"})
        cls.worker.ready()

    @classmethod
    def tearDownClass(cls):
        status = cls.worker.stop()
        assert status == 0, "SIGTERM ended the launcher with %r" % status

    def start(self, *args, **options):
        worker = Worker(self.python, self.server, *args, **options)
        self.addCleanup(worker.stop)
        return worker

    # Loading

    def test_sub_packages_are_imported_on_the_way_to_the_attribute(self):
        self.assertEqual(self.worker.json("/x", "pkg.sub.deep.app"), "/x")

    def test_a_colon_and_a_longer_way_to_the_attribute_work_too(self):
        self.assertEqual(self.worker.json("/x", "pkg.sub.deep:app"), "/x")
        self.assertEqual(self.worker.json("/x", "main.Holder.app"), "/x")

    def test_a_script_that_fails_to_import_is_500_with_its_traceback_logged_and_the_others_live(self):
        self.assertEqual(self.worker.ask(script="broken.app")[0], 500)
        entry = self.worker.logged("cannot import broken.app")
        self.assertEqual(entry["severity"], "ERROR")
        self.assertIn("there_is_no_such_module", entry["message"])
        self.assertIn("Traceback", entry["message"])
        self.assertEqual(self.worker.ask()[0], 200)

    def test_a_missing_module_or_attribute_or_one_that_cannot_be_called_is_500(self):
        for script in ("no_such.app", "main.no_such", "nothing.app", "no/such.py", "main"):
            self.assertEqual(self.worker.ask(script=script)[0], 500, script)

    def test_vendor_add_of_appengine_config_brings_libraries_and_packages_beside_ours(self):
        self.assertEqual(self.worker.json("/", "uses_vendored.app"), ["vendored", "ours"])

    def test_the_middleware_of_appengine_config_wraps_every_application(self):
        self.assertEqual(self.worker.json("/environ")["middleware"], "was here")

    def test_without_script_and_default_a_request_is_404(self):
        self.assertEqual(self.worker.ask(script=None)[0], 404)

    def test_modern_runtimes_fall_back_to_the_default_and_auto_means_it(self):
        worker = self.start({"main.py": APP}, runtime="python311", default="main:app", scripts=["auto"]).ready()
        self.assertEqual(worker.json("/x", None), "/x")
        self.assertEqual(worker.json("/y", "auto"), "/y")

    def test_a_port_that_accepts_means_an_application_that_is_loaded(self):
        slow = "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.02)\nfrom real import app\n"
        for unix in (False, True):
            worker = self.start({"main.py": "open('began', 'w').close()\n" + slow, "real.py": APP}, unix=unix)
            until(lambda: os.path.exists(os.path.join(worker.app_dir, "began")), "the import begins")
            self.assertFalse(worker.accepts())
            open(os.path.join(worker.app_dir, "go"), "w").close()
            self.assertEqual(worker.ready().json("/x"), "/x")

    def test_a_stale_socket_file_is_no_obstacle(self):
        directory = tempfile.mkdtemp(prefix="launcher-")
        self.addCleanup(shutil.rmtree, directory)
        path = os.path.join(directory, "stale")
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(path)
        worker = self.start({"main.py": APP}, unix=path).ready()
        self.assertEqual(worker.ask()[0], 200)

    # CGI scripts

    def test_a_script_that_prints_runs_for_each_request_as_main(self):
        for word in (b"one", b"two"):
            status, headers, body = self.worker.ask("/?q=" + word.decode(), "prints.py", "POST", body=word)
            self.assertEqual((status, headers["content-type"]), (201, "text/plain"))
            self.assertEqual(body, b"POST q=%s %s __main__\n" % (word, word))

    def test_a_script_that_hands_its_application_over_is_run_once(self):
        for script in ("cgi/hands_over.py", "$PYTHON_LIB/util.py", "bare.py"):
            self.assertEqual(self.worker.ask(script=script)[2], b"run 1")
            self.assertEqual(self.worker.ask(script=script)[2], b"run 2")

    def test_a_script_named_from_the_root_of_the_machine_is_looked_for_in_the_app(self):
        self.assertEqual(self.worker.ask("/", "/prints.py", "POST", body=b"")[0], 201)
        self.assertEqual(self.worker.ask("/", "/etc/prints.py")[0], 500)

    # Environment

    def test_os_environ_has_app_yaml_the_process_and_the_request_and_later_ones_win(self):
        seen = self.worker.json("/os?a=b", headers={"X-Who": "header", "Host": "www.example.com:8080"})
        self.assertEqual(seen["FROM_YAML"], "caf\u00e9")
        self.assertEqual(seen["HTTP_X_WHO"], "header")
        self.assertEqual((seen["QUERY_STRING"], seen["REQUEST_METHOD"], seen["PATH_INFO"]), ("a=b", "GET", "/os"))
        self.assertEqual((seen["APPLICATION_ID"], seen["COMPAT_PROXY_WORKER"]), ("s~demo", "3"))
        self.assertEqual(seen["APPENGINE_RUNTIME"], "python27")

    def test_reserved_keys_win_and_come_from_the_headers_of_the_proxy(self):
        seen = self.worker.json("/os")
        self.assertEqual((seen["USER_EMAIL"], seen["USER_IS_ADMIN"], seen["AUTH_DOMAIN"]), ("", "0", "gmail.com"))
        self.assertEqual(seen["SERVER_SOFTWARE"], "Google App Engine/0.71")
        seen = self.worker.json("/os", headers={"X-AppEngine-User-Email": "a@b.c", "X-AppEngine-User-Is-Admin": "1",
                                                "X-AppEngine-Request-Log-Id": "77"})
        self.assertEqual((seen["USER_EMAIL"], seen["USER_IS_ADMIN"], seen["REQUEST_LOG_ID"]), ("a@b.c", "1", "77"))

    def test_the_way_between_proxy_and_worker_is_hidden(self):
        proxied = {"Host": "www.example.com:8443", "X-AppEngine-Https": "on", "X-AppEngine-Remote-Addr": "203.0.113.9"}
        seen = self.worker.json("/os", headers=proxied)
        self.assertEqual((seen["SERVER_NAME"], seen["SERVER_PORT"]), ("www.example.com:8443", "443"))
        self.assertEqual((seen["REMOTE_ADDR"], seen["HTTPS"]), ("203.0.113.9", "on"))
        seen = self.worker.json("/environ", headers=proxied)
        self.assertEqual((seen["SERVER_NAME"], seen["SERVER_PORT"]), ("www.example.com", "8443"))
        self.assertEqual((seen["wsgi.url_scheme"], seen["REMOTE_ADDR"]), ("https", "203.0.113.9"))
        self.assertEqual((seen["wsgi.multithread"], seen["wsgi.multiprocess"]), (True, True))
        seen = self.worker.json("/environ", headers={"X-AppEngine-User-Ip": "203.0.113.8", "X-Forwarded-Proto": "https"})
        self.assertEqual((seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["SERVER_PORT"]),
                         ("203.0.113.8", "https", str(self.worker.port)))

    def test_the_application_never_sees_the_proxy_s_own_headers(self):
        for path in ("/environ", "/os"):
            self.assertFalse([key for key in self.worker.json(path) if "X_COMPAT" in key])

    def test_a_proxy_header_does_not_become_the_http_proxy_of_the_app(self):
        self.assertNotIn("HTTP_PROXY", self.worker.json("/os", headers={"Proxy": "http://evil.example"}))

    def test_two_requests_at_once_have_environments_of_their_own_and_a_new_thread_has_the_process_s(self):
        results = {}

        def ask(who):
            results[who] = self.worker.json("/overlap?" + who, headers={"X-Who": who})

        threads = [threading.Thread(target=ask, args=(who,)) for who in ("ann", "bob")]
        for thread in threads:
            thread.start()
        for who in ("ann", "bob"):
            self.worker.ask("/wait?%s-there" % who)
        for who in ("bob", "ann"):
            self.worker.ask("/release?%s-go" % who)
        for thread in threads:
            thread.join()
        self.assertEqual(results, {"ann": ["ann", "yaml"], "bob": ["bob", "yaml"]})

    def test_what_a_request_sets_is_gone_with_it(self):
        self.assertEqual(self.worker.json("/set"), "yes")
        self.assertNotIn("SET_BY_A_REQUEST", self.worker.json("/os"))

    def test_request_end_callbacks_run_in_order_and_one_that_fails_stops_no_other(self):
        before = self.worker.json("/callback", headers={"X-Cloud-Trace-Context": "0123/4;o=1"})
        self.assertNotIn("0123/4;o=1", before)
        until(lambda: self.worker.json("/ended")[-2:] == ["0123/4;o=1", "second"], "the callbacks run")
        self.worker.logged("a request-end callback failed")

    def test_close_of_an_answer_is_called(self):
        self.assertEqual(self.worker.ask("/closed")[2], b"closing")
        until(lambda: "closed" in self.worker.json("/ended"), "close is called")

    # Logs

    def test_a_log_entry_is_one_json_object_joined_to_its_request(self):
        self.worker.ask("/log", headers={"X-Cloud-Trace-Context": "105445aa7843bc8bf206b12000100000/1;o=1"})
        entry = self.worker.logged("said")
        self.assertEqual(entry["severity"], "WARNING")
        self.assertEqual(entry["traceId"], "105445aa7843bc8bf206b12000100000")
        self.assertEqual(entry["logging.googleapis.com/trace"], "projects/project/traces/105445aa7843bc8bf206b12000100000")
        self.assertEqual(sorted(entry["timestamp"]), ["nanos", "seconds"])
        self.assertIn("thread", entry)

    def test_an_exception_is_500_and_logged_with_its_trace(self):
        status, _, body = self.worker.ask("/raise?once", headers={"X-Cloud-Trace-Context": "feed/1"})
        self.assertEqual(status, 500)
        self.assertNotIn(b"asked to", body)
        self.assertEqual(self.worker.logged("RuntimeError: asked to once")["traceId"], "feed")

    # HTTP

    def test_the_environ_is_what_wsgi_wants(self):
        self.assertEqual(self.worker.ask("/", "main.strict", headers={"Cookie": "a=b"})[2], b"by the book")

    def test_a_connection_is_kept(self):
        connection = self.worker.connection()
        self.worker.ask(connection=connection)
        sock = connection.sock
        for path in ("/x", "/echo", "/write", "/closed", "/304", "/raise", "/environ"):
            self.worker.ask(path, connection=connection)
            self.assertIs(connection.sock, sock, path)
        connection.close()

    def test_head_has_the_headers_of_get_and_no_body(self):
        connection = self.worker.connection()
        for path in ("/x", "/closed"):
            self.assertEqual(self.worker.ask(path, method="HEAD", connection=connection)[2], b"")
        self.assertEqual(self.worker.ask("/x", method="HEAD", connection=connection)[1]["content-length"], "4")
        self.assertEqual(self.worker.json("/x", connection=connection), "/x")
        connection.close()

    def test_304_has_no_body_and_no_length(self):
        status, headers, body = self.worker.ask("/304")
        self.assertEqual((status, headers["etag"], body), (304, '"x"', b""))
        self.assertNotIn("transfer-encoding", headers)

    def test_write_and_return_both_count(self):
        self.assertEqual(self.worker.ask("/write")[2], b"written, returned")

    def test_a_streamed_answer_arrives_as_it_is_made(self):
        connection = self.worker.connection()
        connection.request("GET", "/parts", headers={"X-Compat-Script": "main.app"})
        response = connection.getresponse()
        self.assertEqual(response.getheader("Transfer-Encoding"), "chunked")
        self.assertEqual(response.read(5), b"first")
        self.worker.ask("/release?second")
        self.assertEqual(response.read(), b"second")
        connection.close()

    def test_an_answer_that_breaks_off_is_not_taken_for_whole(self):
        with self.assertRaises((http.client.IncompleteRead, http.client.HTTPException, OSError)):
            self.worker.ask("/breaks")
        self.worker.logged("in the middle")

    def test_an_upload_of_20_mb_arrives_whole(self):
        body = os.urandom(1 << 20) * 20
        self.assertEqual(self.worker.ask("/echo", method="POST", body=body)[2], body)

    def test_a_chunked_request_arrives_whole(self):
        connection = self.worker.connection()
        for _ in range(2):
            sent = [b"x" * 70000, b"y", b"z" * 5]
            connection.request("POST", "/echo", body=iter(sent), headers={"X-Compat-Script": "main.app",
                                                                        "Transfer-Encoding": "chunked"}, encode_chunked=True)
            self.assertEqual(connection.getresponse().read(), b"".join(sent))
        connection.close()

    def test_expect_100_continue_is_answered_before_the_body_comes(self):
        with socket.create_connection(("127.0.0.1", self.worker.port), timeout=PATIENCE) as sock:
            sock.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nX-Compat-Script: main.app\r\nContent-Length: 4\r\n"
                         b"Expect: 100-continue\r\n\r\n")
            self.assertTrue(sock.recv(100).startswith(b"HTTP/1.1 100"))
            sock.sendall(b"body")
            answer = b""
            while not answer.endswith(b"body"):
                answer += sock.recv(65536)
            self.assertTrue(answer.startswith(b"HTTP/1.1 200"))

    def test_a_unicode_path_reaches_the_app_as_wsgi_has_it_and_os_environ_as_cgi_has_it(self):
        disguised = "/caf\u00e9".encode("utf-8").decode("latin-1")
        self.assertEqual(self.worker.json("/caf%C3%A9"), "/caf\u00e9" if self.version == "2.7" else disguised)
        self.assertEqual(self.worker.json("/os", headers={"X-Name": disguised})["HTTP_X_NAME"], "/caf\u00e9")
        self.assertEqual(self.worker.ask("/caf%E9%zz%2F", "main.strict")[0], 200)

    def test_repeated_headers_are_joined(self):
        answer = self.worker.raw(b"GET /environ HTTP/1.1\r\nHost: x\r\nX-Compat-Script: main.app\r\nX-A: 1\r\nX-A: 2\r\n"
                                 b"Connection: close\r\n\r\n")
        self.assertEqual(json.loads(answer.partition(b"\r\n\r\n")[2])["HTTP_X_A"].replace(" ", ""), "1,2")

    def test_concurrent_requests_all_get_their_own_answer(self):
        wrong = []

        def many(who):
            connection = self.worker.connection()
            for number in range(50):
                path = "/%s/%d" % (who, number)
                if self.worker.json(path, connection=connection) != path:
                    wrong.append(path)
            connection.close()

        threads = [threading.Thread(target=many, args=(who,)) for who in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_sigterm_lets_a_running_request_finish_and_exits_0(self):
        worker = Worker(self.python, self.server, {"main.py": APP}).ready()
        idle, answers = worker.connection(), []
        worker.ask(connection=idle)
        thread = threading.Thread(target=lambda: answers.append(worker.ask("/file")))
        thread.start()
        until(lambda: os.path.exists(os.path.join(worker.app_dir, "began")), "the request begins")
        worker.terminate()
        until(lambda: "Handling signal: term" in worker.log() or not worker.accepts_still(), "the launcher is told")
        open(os.path.join(worker.app_dir, "go"), "w").close()
        thread.join()
        self.assertEqual(answers[0][2], b"true")
        self.assertEqual(worker.stop(), 0)
        idle.close()

    def test_the_demo_runs_unchanged(self):
        worker = self.start(app_dir=DEMO, unix=True, scripts=["admin.app", "guestbook.app", "main.app"],
                            environment={"COMPAT_PROXY_WORKER": "7"}).ready()
        page = worker.ask()[2].decode("utf-8")
        self.assertIn("<td>%s." % self.version, page)
        self.assertIn("<td>7</td>", page)
        self.assertIn("&lt;script&gt;", worker.ask("/%3Cscript%3E")[2].decode("utf-8"))
        form = "name=%3Cb%3E&message=caf%C3%A9+%22x%22"
        self.assertEqual(worker.ask("/guestbook", "guestbook.app", "POST", body=form)[0], 303)
        book = worker.ask("/guestbook", "guestbook.app")[2].decode("utf-8")
        self.assertIn("<b>&lt;b&gt;</b>", book)
        self.assertIn("caf\u00e9 &quot;x&quot;", book)
        self.assertEqual(worker.ask("/slow?seconds=1")[2].splitlines()[-1], b"done")
        self.assertEqual(len(worker.ask("/big?kilobytes=128")[2]), 128 * 1024)
        self.assertEqual(len(worker.ask("/big?kilobytes=3")[2]), 3 * 1024)


class BuiltIn(object):
    """What only the launcher's own server can be held to."""

    def test_a_body_shorter_than_its_length_ends_the_connection(self):
        with self.assertRaises(http.client.IncompleteRead):
            self.worker.ask("/short")

    def test_a_body_longer_than_its_length_is_cut(self):
        self.assertEqual(self.worker.ask("/long")[2], b"too")

    def test_sigterm_said_again_and_again_still_ends_it_with_0(self):
        worker = Worker(self.python, self.server, {"main.py": APP}).ready()
        worker.terminate()
        until(lambda: not worker.accepts_still(), "the launcher is told")
        while worker.process.poll() is None:
            worker.process.send_signal(signal.SIGTERM)
        self.assertEqual(worker.stop(), 0)

    def test_a_line_break_cannot_be_put_into_a_header(self):
        status, headers, _ = self.worker.ask("/inject")
        self.assertEqual(status, 500)
        self.assertNotIn("set-cookie", headers)

    def test_an_upload_that_breaks_off_never_reaches_the_application(self):
        answer = b""
        with socket.create_connection(("127.0.0.1", self.worker.port), timeout=PATIENCE) as sock:
            sock.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nX-Compat-Script: main.app\r\nContent-Length: 9\r\n\r\nhalf")
            sock.shutdown(socket.SHUT_WR)
            answer = sock.recv(100)
        self.assertEqual(answer, b"")

    def test_a_header_with_an_underscore_does_not_pass_for_one_with_a_hyphen(self):
        seen = self.worker.json("/environ", headers={"X_AppEngine_User_Email": "evil@example.com"})
        self.assertNotIn("HTTP_X_APPENGINE_USER_EMAIL", seen)

    def test_garbage_ends_the_connection_and_nothing_else(self):
        for garbage in (b"\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 100 + b"\n\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
            self.worker.raw(garbage)
        self.assertEqual(self.worker.ask()[0], 200)

    def test_pipelined_requests_are_answered_in_order(self):
        one = b"GET /%d HTTP/1.1\r\nHost: x\r\nX-Compat-Script: main.app\r\n%s\r\n"
        answer = self.worker.raw(one % (1, b"") + one % (2, b"") + one % (3, b"Connection: close\r\n"))
        self.assertEqual([answer.count(b'"/%d"' % number) for number in (1, 2, 3)], [1, 1, 1])
        self.assertLess(answer.index(b'"/1"'), answer.index(b'"/3"'))


class Gunicorn(object):
    """What only gunicorn can be held to."""

    def test_gunicorn_conf_py_changes_threads_and_hooks_but_neither_workers_nor_bind(self):
        conf = ("threads = 3\nworkers = 4\nbind = '0.0.0.0:1'\n"
                "def post_fork(server, worker):\n    open('forked-%d' % worker.cfg.threads, 'w').close()\n"
                "def post_worker_init(worker):\n    open('initialised', 'w').close()\n")
        worker = self.start({"main.py": APP, "gunicorn.conf.py": conf}).ready()
        self.assertEqual(worker.json("/x"), "/x")
        made = os.listdir(worker.app_dir)
        self.assertIn("forked-3", made)
        self.assertIn("initialised", made)
        for name in ("workers", "bind"):
            self.assertEqual(worker.logged("`%s` of gunicorn.conf.py" % name)["severity"], "WARNING")

    def test_an_app_is_loaded_in_the_worker_even_if_gunicorn_conf_py_preloads(self):
        source = "import os\nfrom real import answer\nLOADED = os.getpid()\ndef app(environ, start_response):\n" \
                 "    return answer(start_response, LOADED == os.getpid())\n"
        worker = self.start({"main.py": source, "real.py": APP, "gunicorn.conf.py": "preload_app = True\n"}).ready()
        self.assertIs(worker.json(), True)

    def test_a_worker_that_is_killed_comes_back(self):
        worker = self.start({"main.py": "import os\nfrom real import answer\n"
                                        "def app(environ, start_response):\n"
                                        "    return answer(start_response, os.getpid())\n", "real.py": APP}).ready()
        pid = worker.json()
        self.assertNotEqual(pid, worker.process.pid)
        os.kill(pid, signal.SIGKILL)

        def another():
            try:
                return worker.json() != pid
            except (OSError, http.client.HTTPException):
                return False
        until(another, "another worker")


class Refusals(object):
    """What the launcher says when it cannot begin."""
    python = None

    def test_a_port_that_is_taken_is_one_clear_line(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(1)
            worker = Worker(self.python, "builtin", {"main.py": APP}, environment={})
            self.assertTrue(worker.ready())
            other = dict(os.environ, PORT=str(taken.getsockname()[1]))
            process = subprocess.run([self.python, LAUNCHER, os.path.join(worker.directory, "table.json")], env=other,
                                     stderr=subprocess.PIPE, timeout=PATIENCE)
            worker.stop()
        self.assertNotEqual(process.returncode, 0)
        self.assertIn(b"launcher: cannot listen on", process.stderr)
        self.assertNotIn(b"Traceback", process.stderr)


def pythons():
    """`(version, program, version of gunicorn or "")` of each interpreter that really runs, each once."""
    names = ["python2.7", "python3"] + ["python3.%d" % minor for minor in range(6, 15)]
    found = {}
    for name in [each for each in os.environ.get("LAUNCHER_PYTHONS", "").split(os.pathsep) if each] + names:
        program = shutil.which(name)
        if not program:
            continue
        about = subprocess.run([program, "-c", ABOUT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if about.returncode == 0:
            version, gunicorn = about.stdout.decode().strip().split("|")
            if version == "2.7" or int(version.split(".")[1]) >= 6:
                found.setdefault((version, bool(gunicorn)), (version, program, gunicorn))
    return sorted(found.values())


def load_tests(loader, _tests, _pattern):
    suite, versions = unittest.TestSuite(), set()
    for version, program, gunicorn in pythons():
        label = version.replace(".", "_") + ("_gunicorn_" + gunicorn.replace(".", "_") if gunicorn else "")
        kinds = [("builtin", (BuiltIn, Either))] * (version not in versions) + [("gunicorn", (Gunicorn, Either))] * bool(gunicorn)
        for server, bases in kinds:
            kind = type("%s_on_%s" % (server.title(), label), bases + (unittest.TestCase,),
                        {"python": program, "server": server, "version": version})
            suite.addTests(loader.loadTestsFromTestCase(kind))
        if version not in versions:
            kind = type("Refusals_on_" + label, (Refusals, unittest.TestCase), {"python": program})
            suite.addTests(loader.loadTestsFromTestCase(kind))
        versions.add(version)
        sys.stderr.write("launcher tests: Python %s (%s), gunicorn %s\n" % (version, program, gunicorn or "not installed"))
    if "2.7" not in versions:
        sys.stderr.write("launcher tests: NO PYTHON 2.7 FOUND, and that is what most old apps need: nothing was shown for it."
                         " Put python2.7 on PATH or name one in LAUNCHER_PYTHONS.\n")
    return suite


if __name__ == "__main__":
    unittest.main()
