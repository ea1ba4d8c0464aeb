"""The launcher under every Python found, without gunicorn and, where it is installed, with it.

    python3 tests/launcher/test_launcher.py [-k PART_OF_A_NAME]

Interpreters: `python2.7`, `python3` and `python3.6` to `python3.14` on PATH, and those named in LAUNCHER_PYTHONS
(paths with `:` between them). Gunicorns: the one that an interpreter has, and those in the folders LAUNCHER_GUNICORNS
names, where the interpreter can import them. Each gets classes of tests of its own, named after it: `Builtin_on_…` without
gunicorn, `Gunicorn_on_…` where gunicorn's worker is the launcher's own, `Gthread_on_…` where the app asks for gunicorn's.
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
ABOUT = ("import sys\ntry:\n    import gunicorn\n    from gunicorn.workers import gthread\n    found = gunicorn.__version__\n"
         "except (ImportError, RuntimeError, SyntaxError):\n    found = ''\n"
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
        WAITING.append(1)
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
    if path == "/socket":
        return answer(start_response, environ["gunicorn.socket"].fileno() > 2)
    if path == "/pid":
        return answer(start_response, os.getpid())
    if path == "/sleep":
        time.sleep(float(environ["QUERY_STRING"]))
        return answer(start_response, True)
    if path == "/waiting":
        return answer(start_response, len(WAITING))
    if path == "/most":
        return answer(start_response, most())
    if path == "/large":
        return plain(start_response, b"x" * 10000000)
    if path == "/text":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return ["text"]
    if path == "/wide":
        start_response("200 OK", [("X-Wide", "\\u20ac")])
        return [b""]
    if path == "/silent":
        return [b"never started"]
    if path == "/leaves":
        raise KeyboardInterrupt("through the back door")
    if path == "/wrapped":
        with open("wrapped", "wb") as file:
            file.write(b"from a file")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](open("wrapped", "rb"), 4)
    if path == "/body":
        return answer(start_response, consume(environ["wsgi.input"], environ["QUERY_STRING"]))
    return answer(start_response, path)

def consume(body, way):  # the length of it all, the last line, whether it is in a file
    if way == "read":
        lines = body.read().splitlines(True)
    elif way == "readline":
        lines = list(iter(body.readline, b""))
    elif way == "readlines":
        lines = body.readlines()
    elif way == "iterate":
        lines = list(body)
    else:
        pieces = list(iter(lambda: body.read(1000), b""))
        assert max(map(len, pieces)) <= 1000 and body.readline(5) == b""
        lines = b"".join(pieces).splitlines(True)
    return [sum(map(len, lines)), lines[-1].decode("ascii"), bool(getattr(body, "_rolled", False))]

WAITING, LOCK, NOW = [], threading.Lock(), [0, 0]

def most():  # how many were here at the same time, at most
    with LOCK:
        NOW[0] += 1
        NOW[1] = max(NOW)
    time.sleep(0.05)
    with LOCK:
        NOW[0] -= 1
    return NOW[1]

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
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(self.path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


class Worker(object):
    """One launcher process, started as the proxy starts it, and ways to talk to it."""

    def __init__(self, python, server, files=None, app_dir=None, gunicorn=None, environment=(), **table):
        self.directory, self.told = tempfile.mkdtemp(prefix="launcher-"), False
        self.app_dir = os.path.join(self.directory, "app")
        shutil.copytree(app_dir, self.app_dir) if app_dir else os.mkdir(self.app_dir)
        files = dict({"gunicorn.conf.py": "worker_class = 'gthread'\n"} if server == "gthread" else {}, **(files or {}))
        for name, source in files.items():
            path = os.path.join(self.app_dir, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(source)
        self.table = dict({"runtime": "python27", "default": None, "threads": 25, "scripts": ["main.app"]}, **table)
        with open(os.path.join(self.directory, "table.json"), "w") as file:
            json.dump(self.table, file)
        self.log_path = os.path.join(self.directory, "stderr")
        self.socket_path = os.path.join(self.directory, "socket")
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", APPENGINE_RUNTIME="python27", **dict(environment))
        if server == "builtin":
            with open(os.path.join(self.directory, "gunicorn.py"), "w") as file:
                file.write("raise ImportError('there is no gunicorn')\n")
            gunicorn = self.directory
        if gunicorn:
            env["PYTHONPATH"] = gunicorn
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen([python, LAUNCHER, os.path.join(self.directory, "table.json"), self.socket_path],
                                            stderr=log, stdout=log, env=env, cwd=self.app_dir)

    def connect(self):
        connection = self.connection()
        connection.connect()
        return connection.sock

    def connection(self):
        return UnixConnection(self.socket_path)

    def accepts(self):
        try:
            self.connect().close()
            return True
        except OSError:
            if self.process.poll() is not None:
                raise AssertionError("the launcher ended: %s" % self.log())
            return False

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
        try:
            used.request(method, path, body=body, headers=given)
            with used.getresponse() as response:
                return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            if connection is None:
                used.close()

    def json(self, *args, **options):
        return json.loads(self.ask(*args, **options)[2].decode("utf-8"))

    def another_than(self, pid):
        """Whether another process answers by now."""
        try:
            return self.json("/pid") != pid
        except (OSError, http.client.HTTPException):
            return False

    def raw(self, data):
        """The bytes that answer these bytes, until the launcher closes."""
        with self.connect() as sock:
            sock.sendall(data)
            return b"".join(iter(lambda: sock.recv(65536), b""))

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


class Every(object):
    """What must hold under every server; a subclass for each Python and server is made at the end."""
    python = server = version = gunicorn = None

    @classmethod
    def setUpClass(cls):
        cls.worker = Worker(cls.python, cls.server, FILES, gunicorn=cls.gunicorn, scripts=SCRIPTS, environment={
            "APPLICATION_ID": "s~demo", "COMPAT_PROXY_WORKER": "3", "GOOGLE_CLOUD_PROJECT": "project",
            "FROM_YAML": "caf\u00e9", "USER_EMAIL": "yaml@example.com", "HTTP_X_WHO": "yaml"})
        cls.worker.ready()

    @classmethod
    def tearDownClass(cls):
        status = cls.worker.stop()
        assert status == 0, "SIGTERM ended the launcher with %r" % status

    def start(self, *args, **options):
        worker = Worker(self.python, self.server, *args, gunicorn=self.gunicorn, **options)
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
        worker = self.start({"main.py": "open('began', 'w').close()\n" + slow, "real.py": APP})
        until(lambda: os.path.exists(os.path.join(worker.app_dir, "began")), "the import begins")
        self.assertFalse(worker.accepts())
        open(os.path.join(worker.app_dir, "go"), "w").close()
        self.assertEqual(worker.ready().json("/x"), "/x")

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
                         ("203.0.113.8", "https", "443"))

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
        with self.worker.connect() as sock:
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
        worker = Worker(self.python, self.server, {"main.py": APP}, gunicorn=self.gunicorn).ready()
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
        worker = self.start(app_dir=DEMO, scripts=["admin.app", "guestbook.app", "main.app"],
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


class Ours(object):
    """What the launcher's own reading and answering of requests can be held to."""

    def test_a_body_shorter_than_its_length_ends_the_connection(self):
        with self.assertRaises(http.client.IncompleteRead):
            self.worker.ask("/short")

    def test_a_body_longer_than_its_length_is_cut(self):
        connection = self.worker.connection()
        for _ in range(2):
            self.assertEqual(self.worker.ask("/long", connection=connection)[2], b"too")
        connection.close()

    def test_what_cannot_be_sent_is_500_and_logged(self):
        for path, why in (("/inject", "a line break"), ("/text", "TypeError"), ("/wide", "UnicodeEncodeError")):
            if self.version == "2.7" and path != "/inject":
                continue  # text and bytes are one there
            status, headers, _ = self.worker.ask(path)
            self.assertEqual(status, 500, path)
            self.assertNotIn("set-cookie", headers)
            self.worker.logged(why)

    def test_an_application_that_says_nothing_is_cut_off_and_logged(self):
        with self.assertRaises((http.client.HTTPException, OSError)):
            self.worker.ask("/silent")
        self.worker.logged("a connection is cut")

    def test_an_application_that_leaves_by_the_back_door_takes_no_thread_along(self):
        for _ in range(30):  # more than there are threads
            with self.assertRaises((http.client.HTTPException, OSError)):
                self.worker.ask("/leaves")
        self.assertEqual(self.worker.ask()[0], 200)

    def test_an_upload_that_breaks_off_never_reaches_the_application(self):
        with self.worker.connect() as sock:
            sock.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nX-Compat-Script: main.app\r\nContent-Length: 9\r\n\r\nhalf")
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(sock.recv(100), b"")

    def test_a_header_with_an_underscore_does_not_pass_for_one_with_a_hyphen(self):
        seen = self.worker.json("/environ", headers={"X_AppEngine_User_Email": "evil@example.com"})
        self.assertNotIn("HTTP_X_APPENGINE_USER_EMAIL", seen)

    def test_cookies_in_several_headers_are_one(self):
        answer = self.worker.raw(b"GET /environ HTTP/1.1\r\nX-Compat-Script: main.app\r\nCookie: a=1\r\nCookie: b=2\r\n"
                                 b"Connection: close\r\n\r\n")
        self.assertEqual(json.loads(answer.partition(b"\r\n\r\n")[2])["HTTP_COOKIE"], "a=1; b=2")

    def test_garbage_ends_the_connection_and_nothing_else(self):
        for garbage in (b"\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
            self.assertEqual(self.worker.raw(garbage), b"")
        self.assertEqual(self.worker.ask()[0], 200)

    def test_pipelined_requests_are_answered_in_order(self):
        one = b"GET /%d HTTP/1.1\r\nHost: x\r\nX-Compat-Script: main.app\r\n%s\r\n"
        answer = self.worker.raw(one % (1, b"") + one % (2, b"") + one % (3, b"Connection: close\r\n"))
        self.assertEqual([answer.count(b'"/%d"' % number) for number in (1, 2, 3)], [1, 1, 1])
        self.assertLess(answer.index(b'"/1"'), answer.index(b'"/3"'))

    def test_a_head_and_a_body_may_come_byte_by_byte(self):
        with self.worker.connect() as sock:
            for byte in b"POST /echo HTTP/1.1\r\nX-Compat-Script: main.app\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi":
                sock.sendall(bytes([byte]))
            self.assertTrue(b"".join(iter(lambda: sock.recv(65536), b"")).endswith(b"\r\n\r\nhi"))

    def test_a_body_can_be_read_in_every_way_and_a_large_one_is_on_disk(self):
        lines = [b"one\n", b"two\n", b"three"]
        for filling, on_disk in ((b"", False), (b"x" * (2 << 20) + b"\n", True)):
            body = filling + b"".join(lines)
            for way in ("read", "readline", "readlines", "iterate", "some"):
                seen = self.worker.json("/body?" + way, method="POST", body=body)
                self.assertEqual(seen, [len(body), "three", on_disk], way)

    def test_uploads_at_the_same_time_are_not_kept_in_memory(self):
        worker = self.start({"main.py": APP}).ready()
        body, connections = b"x" * (16 << 20), [worker.connection() for _ in range(20)]
        for connection in connections:  # all of them are read, and wait
            connection.request("POST", "/wait?all", body=body, headers={"X-Compat-Script": "main.app"})
        until(lambda: worker.json("/waiting") == 20, "all are with the application")
        used = max(resident(pid) for pid in family(worker.process.pid))
        worker.ask("/release?all")
        for connection in connections:
            self.assertEqual(connection.getresponse().read(), b"true")
            connection.close()
        self.assertLess(used, 150 << 20)  # of 320 MiB

    def test_more_connections_than_threads_are_all_answered_at_once(self):
        worker = self.start({"main.py": APP}, threads=3).ready()
        connections = [worker.connection() for _ in range(60)]
        slowest = 0
        for _ in range(5):
            for connection in connections + connections[::-1]:
                began = time.time()
                self.assertEqual(worker.json("/x", connection=connection), "/x")
                slowest = max(slowest, time.time() - began)
        self.assertLess(slowest, 1)
        # Two of three threads are held; the third has all the others.
        held = [threading.Thread(target=worker.ask, args=("/wait?held",)) for _ in range(2)]
        for thread in held:
            thread.start()
        until(lambda: worker.json("/waiting", connection=connections[0]) == 2, "two are held")
        for connection in connections:
            self.assertEqual(worker.json("/x", connection=connection), "/x")
        worker.ask("/release?held")
        for thread in held:
            thread.join()
        for connection in connections:
            connection.close()

    def test_no_more_requests_than_threads_are_with_the_application(self):
        worker = self.start({"main.py": APP}, threads=2).ready()
        asked = [threading.Thread(target=worker.ask, args=("/most",)) for _ in range(12)]
        for thread in asked:
            thread.start()
        for thread in asked:
            thread.join()
        self.assertEqual(worker.json("/most"), 2)

    def test_clients_that_vanish_leave_nothing_behind(self):
        worker = self.start({"main.py": APP}, threads=2).ready()
        pid = worker.json("/pid")
        before = len(os.listdir("/proc/%d/fd" % pid))
        for path in ("/x", "/parts", "/large"):
            for _ in range(10):
                with worker.connect() as sock:
                    sock.sendall(b"GET %s HTTP/1.1\r\nX-Compat-Script: main.app\r\n\r\n" % path.encode())
        worker.ask("/release?second")
        self.assertEqual(worker.json("/x"), "/x")
        until(lambda: len(os.listdir("/proc/%d/fd" % pid)) <= before, "the connections are closed")
        self.assertNotIn("Traceback", worker.log())

    def test_the_environ_names_its_server_and_has_what_servers_have(self):
        seen = self.worker.json("/environ")
        self.assertTrue(seen["SERVER_SOFTWARE"].startswith("gunicorn/" if self.gunicorn_version else "compat-proxy"), seen)
        self.assertEqual((seen["SCRIPT_NAME"], seen["RAW_URI"], seen["SERVER_PROTOCOL"]), ("", "/environ", "HTTP/1.1"))
        self.assertIs(seen["wsgi.input_terminated"], True)
        self.assertNotIn("CONTENT_LENGTH", seen)
        self.assertEqual(self.worker.ask("/wrapped")[2], b"from a file")
        self.assertIs(self.worker.json("/socket"), True)


class BuiltIn(object):
    """What only the launcher's own server can be held to."""

    def test_sigterm_said_again_and_again_still_ends_it_with_0(self):
        worker = Worker(self.python, self.server, {"main.py": APP}).ready()
        worker.terminate()
        until(lambda: not worker.accepts_still(), "the launcher is told")
        while worker.process.poll() is None:
            worker.process.send_signal(signal.SIGTERM)
        self.assertEqual(worker.stop(), 0)


# What a gunicorn.conf.py writes down of the worker it meets.
WITNESS = ("def post_worker_init(worker):\n"
           "    with open('worker', 'w') as file:\n        file.write(type(worker).__name__)\n")


class Gunicorn(object):
    """What only gunicorn can be held to."""

    def witnessed(self, conf):
        """A worker with this gunicorn.conf.py, and the name of the class that gunicorn uses."""
        worker = self.start({"main.py": APP, "gunicorn.conf.py": WITNESS + conf}).ready()
        seen = os.path.join(worker.app_dir, "worker")
        until(lambda: os.path.exists(seen) and os.path.getsize(seen), "gunicorn.conf.py has seen the worker")
        with open(seen) as file:
            return worker, file.read()

    def test_gunicorn_conf_py_changes_threads_and_hooks_but_neither_workers_nor_bind(self):
        conf = ("threads = 3\nworkers = 4\nbind = '0.0.0.0:1'\n"
                "def post_fork(server, worker):\n    open('forked-%d' % worker.cfg.threads, 'w').close()\n")
        worker, name = self.witnessed(conf)
        self.assertEqual(name, "LauncherWorker")
        self.assertEqual(worker.json("/x"), "/x")
        self.assertIn("forked-3", os.listdir(worker.app_dir))
        for name in ("workers", "bind"):
            self.assertEqual(worker.logged("`%s` of gunicorn.conf.py" % name)["severity"], "WARNING")

    def test_gunicorn_s_own_worker_answers_where_the_app_could_tell_the_difference(self):
        for conf in ("worker_class = 'gthread'", "def pre_request(worker, req):\n    open('hooked', 'a').close()",
                     "def post_request(worker, req):\n    open('hooked', 'a').close()", "accesslog = '-'",
                     "limit_request_fields = 30", "logger_class = 'gunicorn.glogging.Logger'\nstatsd_host = 'localhost:1'"):
            worker, name = self.witnessed(conf)
            self.assertEqual(name, "ThreadWorker", conf)
            self.assertEqual(worker.json("/x"), "/x")
            self.assertEqual(worker.logged("gunicorn's own worker")["severity"], "INFO")
            if "hooked" in conf:
                until(lambda: "hooked" in os.listdir(worker.app_dir), "the hook is called")

    def test_the_launcher_s_worker_answers_where_the_app_could_not(self):
        for conf in ("", "timeout = 0\ngraceful_timeout = 5\nkeepalive = 5", "accesslog = None\nworker_connections = 1000",
                     "loglevel = 'warning'\nforwarded_allow_ips = '*'\ncapture_output = True",
                     "max_requests = 1000\nmax_requests_jitter = 50\nworker_tmp_dir = '/dev/shm'\npreload_app = True"):
            worker, name = self.witnessed(conf)
            self.assertEqual(name, "LauncherWorker", conf)
            self.assertEqual(worker.json("/x"), "/x")
            self.assertNotIn("gunicorn's own worker", worker.log())

    def test_keepalive_0_ends_a_connection_after_each_answer(self):
        worker, name = self.witnessed("keepalive = 0")
        self.assertEqual((name, worker.ask("/x")[1]["connection"]), ("LauncherWorker", "close"))

    def test_max_requests_changes_the_worker_and_loses_no_request(self):
        worker, _ = self.witnessed("max_requests = 30")
        pids, failed, end = set(), [], time.time() + PATIENCE

        def client():
            connection = worker.connection()
            while len(pids) < 3 and time.time() < end:
                try:  # a POST is lost when its connection breaks: nobody may send it twice
                    pids.add(worker.json("/pid", method="POST", body=b"x", connection=connection))
                except Exception as error:
                    failed.append(error)
            connection.close()

        clients = [threading.Thread(target=client) for _ in range(8)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        self.assertEqual(failed, [])
        self.assertGreaterEqual(len(pids), 3)

    def test_the_heartbeat_goes_on_while_requests_take_longer_than_the_timeout(self):
        worker, _ = self.witnessed("timeout = 2\nthreads = 1")
        self.assertIs(worker.json("/sleep?5"), True)
        self.assertNotIn("TIMEOUT", worker.log())

    def test_a_worker_whose_master_is_killed_ends(self):
        worker, _ = self.witnessed("")
        pid = worker.json("/pid")
        worker.process.kill()
        until(lambda: not os.path.exists("/proc/%d" % pid) or "Z" in status(pid), "the worker ends too")

    def test_worker_hooks_are_called_at_the_end(self):
        worker, _ = self.witnessed("def worker_exit(server, worker):\n    open('../left', 'w').close()\n"
                                   "def worker_int(worker):\n    open('../interrupted', 'w').close()\n")
        held = threading.Thread(target=lambda: self.assertRaises((OSError, http.client.HTTPException), worker.ask, "/wait?quit"))
        pid = worker.json("/pid")
        held.start()
        until(lambda: worker.json("/waiting") == 1, "a request is running")
        began = time.time()
        os.kill(pid, signal.SIGQUIT)  # at once, unlike SIGTERM
        for name in ("left", "interrupted"):
            until(lambda: os.path.exists(os.path.join(worker.directory, name)), name)
        held.join()
        self.assertLess(time.time() - began, 15)
        self.assertNotIn("cannot wait", worker.log())
        # Told to stop while it starts a successor, gunicorn waits half a minute for one that never heard of it.
        until(lambda: worker.another_than(pid), "its successor answers")

    def test_an_app_is_loaded_in_the_worker_even_if_gunicorn_conf_py_preloads(self):
        source = "import os\nfrom real import answer\nLOADED = os.getpid()\ndef app(environ, start_response):\n" \
                 "    return answer(start_response, LOADED == os.getpid())\n"
        worker = self.start({"main.py": source, "real.py": APP, "gunicorn.conf.py": "preload_app = True\n"}).ready()
        self.assertIs(worker.json(), True)

    def test_a_worker_that_is_killed_comes_back(self):
        worker = self.start({"main.py": APP}).ready()
        pid = worker.json("/pid")
        self.assertNotEqual(pid, worker.process.pid)
        os.kill(pid, signal.SIGKILL)
        until(lambda: worker.another_than(pid), "another worker")


class Source(unittest.TestCase):
    def test_it_is_a_file_that_a_person_reads(self):
        with open(LAUNCHER) as file:
            lines = file.read().splitlines()
        self.assertLess(len(lines), 400)
        self.assertLessEqual(max(map(len, lines)), 120)


def status(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return ["Z", "0"]


def resident(pid):
    with open("/proc/%d/statm" % pid) as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def family(pid):
    """A process and its children."""
    return [pid] + [int(name) for name in os.listdir("/proc") if name.isdigit() and status(int(name))[1] == str(pid)]


def pythons():
    """`(version, program, version of gunicorn or "", folder to find that in or None)` of what really runs, each once."""
    names = ["python2.7", "python3"] + ["python3.%d" % minor for minor in range(6, 15)]
    listed = lambda name: [each for each in os.environ.get(name, "").split(os.pathsep) if each]  # noqa: E731
    found = {}
    for name in listed("LAUNCHER_PYTHONS") + names:
        program = shutil.which(name)
        for folder in [None] + listed("LAUNCHER_GUNICORNS") if program else []:
            env = dict(os.environ, **({"PYTHONPATH": folder} if folder else {}))
            about = subprocess.run([program, "-c", ABOUT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
            if about.returncode == 0:
                version, gunicorn = about.stdout.decode().strip().split("|")
                if version == "2.7" or int(version.split(".")[1]) >= 6:
                    found.setdefault((version, gunicorn), (version, program, gunicorn, folder))
    return sorted(found.values(), key=lambda each: each[:3])


def load_tests(loader, _tests, _pattern):
    suite, versions = unittest.TestSuite(loader.loadTestsFromTestCase(Source)), set()
    for version, program, gunicorn, folder in pythons():
        label = version.replace(".", "_") + ("_gunicorn_" + gunicorn.replace(".", "_") if gunicorn else "")
        kinds = [("builtin", (BuiltIn, Ours, Every))] * (version not in versions)
        kinds += [("gunicorn", (Gunicorn, Ours, Every)), ("gthread", (Every,))] * bool(gunicorn)
        for server, bases in kinds:
            kind = type("%s_on_%s" % (server.title(), label), bases + (unittest.TestCase,), {
                "python": program, "server": server, "version": version, "gunicorn": folder,
                "gunicorn_version": gunicorn if server != "builtin" else ""})
            suite.addTests(loader.loadTestsFromTestCase(kind))
        versions.add(version)
        sys.stderr.write("launcher tests: Python %s (%s), gunicorn %s\n" % (version, program, gunicorn or "not installed"))
    if "2.7" not in versions:
        sys.stderr.write("launcher tests: NO PYTHON 2.7 FOUND, and that is what most old apps need: nothing was shown for it."
                         " Put python2.7 on PATH or name one in LAUNCHER_PYTHONS.\n")
    return suite


if __name__ == "__main__":
    unittest.main()
