"""compat-proxy's launcher: loads the applications app.yaml names and serves them to the proxy.

    PYTHON launcher.py TABLE.json [SOCKET]        without SOCKET: with PORT or COMPAT_PROXY_SOCKET in the environment

One file, standard library only, Python 2.7 and 3.6 or newer. It matches no URL and reads no app.yaml: the proxy has
decided and names the script in a header of its own. j.1 to j.9 are rules of the specification.
"""
import contextlib, glob, io, json, logging, os, re, select, signal, site, socket, sys, threading, time, types
from importlib import import_module
PY2 = sys.version_info[0] == 2
if PY2:
    from cStringIO import StringIO
    from SocketServer import StreamRequestHandler, TCPServer, ThreadingMixIn
    from urllib import unquote
    from UserDict import IterableUserDict as UserDict
    latin = str  # a WSGI string: bytes here, bytes in disguise on Python 3
else:
    from collections import UserDict
    from socketserver import StreamRequestHandler, TCPServer, ThreadingMixIn
    from urllib.parse import unquote_to_bytes
    latin = lambda data: data.decode("latin-1")  # noqa: E731
    unquote = lambda text: latin(unquote_to_bytes(text.encode("latin-1")))  # noqa: E731

RETRY_AFTER, LINE, TRACE = 10, 65536, "HTTP_X_CLOUD_TRACE_CONTEXT"  # in seconds; in bytes, the proxy allows less
FIXED = "APPENGINE_RUNTIME APPLICATION_ID INSTANCE_ID BACKEND_ID CURRENT_MODULE_ID CURRENT_VERSION_ID".split()
RESERVED = dict.fromkeys("DATACENTER DEFAULT_VERSION_HOSTNAME HTTPS REQUEST_ID_HASH REQUEST_LOG_ID USER_EMAIL USER_ID "
                         "USER_NICKNAME USER_ORGANIZATION".split(), "")
RESERVED.update(AUTH_DOMAIN="gmail.com", USER_IS_ADMIN="0", SERVER_SOFTWARE="Google App Engine/0.71")
LOG, CGI = logging.getLogger("launcher"), re.compile(r".*(/|\.py$)").match

def local():  # what belongs to the request that a thread answers, and to the CGI script it runs
    return type("Local", (threading.local,), dict.fromkeys("environ variables callbacks caught stdin stdout".split()))()
LOCAL = local()

class JsonLog(logging.StreamHandler):
    """j.9: one JSON object a line, joined to its request by the trace."""
    def format(self, record):
        text = logging.StreamHandler.format(self, record)
        entry = {"message": text.decode("utf-8", "replace") if isinstance(text, bytes) else text,
                 "timestamp": {"seconds": int(record.created), "nanos": int(record.created % 1 * 1e9)},
                 "thread": record.thread, "severity": record.levelname}
        trace = getattr(record, "trace_id", None) or (LOCAL.environ or {}).get(TRACE, "").split("/")[0]
        if trace:
            entry["traceId"], project = trace, os.environ.get("GOOGLE_CLOUD_PROJECT")
            entry["logging.googleapis.com/trace"] = "projects/%s/traces/%s" % (project, trace) if project else trace
        return json.dumps(entry)

class Environment(UserDict):
    """`os.environ`: a fresh one for each request inside it (j.4), the process's own everywhere else."""
    def __init__(self, process):
        self.process, self.configured = process, {key: process[key] for key in FIXED if key in process}
    @property
    def data(self):
        if LOCAL.environ is not None and LOCAL.variables is None:  # made when first looked at: most requests never do
            LOCAL.variables = self.of_request(LOCAL.environ)
        return self.process if LOCAL.environ is None else LOCAL.variables

    def of_request(self, environ):
        """Later wins: process, request, configuration, reserved keys, the site's name and port (j.4 to j.7)."""
        wsgi = {key: value if PY2 else value.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
                for key, value in environ.items() if isinstance(value, str) and key != "HTTP_PROXY"}
        reserved = {key: wsgi.get("HTTP_X_APPENGINE_" + key) or default for key, default in RESERVED.items()}
        reserved.update({"WSGI_" + key: wsgi[key] for key in RESERVED if wsgi.get(key)})
        port = {"on": "443", "off": "80"}.get(wsgi.get("HTTP_X_APPENGINE_HTTPS", "off"), wsgi["SERVER_PORT"])
        reserved.update(SERVER_NAME=wsgi.get("HTTP_HOST") or wsgi["SERVER_NAME"], SERVER_PORT=port)
        return dict(dict(dict(self.process, **wsgi), **self.configured), **reserved)

    copy = lambda self: dict(self.data)
    __or__, __ror__ = (lambda self, more: dict(self.data, **more)), (lambda self, less: dict(less, **self.data))

def guarded(what, call, *args):
    try:
        return call(*args)
    except (Exception, SystemExit) as error:
        LOG.exception("launcher: %s: %s: %s", what, type(error).__name__, error)

class Scripts(object):
    """The applications the proxy may ask for, by the text of their `script:`; one that fails harms no other."""
    def __init__(self, table):
        self.default, self.loaded, self.lock = table["default"], {}, threading.RLock()
        scripts = [handler["script"] for handler in table["handlers"]] + [self.default or ""]
        self.retry = dict.fromkeys(scripts, 0)
        if not table["runtime"].startswith("python3"):
            os.environ.setdefault("APPENGINE_RUNTIME", "python27")  # webapp2 asks, before it looks for an older webapp
            lend("google.appengine.ext.vendor").add = vendor_add
            lend("google.appengine.ext.vmruntime.callback").SetRequestEndCallback = (
                lambda call: LOCAL.callbacks is None or LOCAL.callbacks.append(call))
        config = glob.glob("appengine_config*") and guarded("appengine_config", import_module, "appengine_config")
        self.wrap = getattr(config, "webapp_add_wsgi_middleware", lambda app: app)
        any(map(CGI, scripts)) and catch_applications()
        for script in [each for each in scripts if each and "\\" not in each]:  # a template's is known at its request
            self.find(script)

    def find(self, script):
        """None when it does not load; that is tried again now and then, by one thread at a time."""
        with self.lock:
            if script not in self.loaded and time.time() > self.retry.get(script, 0):
                app = guarded("cannot import " + script, self.load, script.replace("$PYTHON_LIB/", ""))
                self.loaded.update({script: app} if app else {})
                self.retry.update({script: time.time() + RETRY_AFTER} if script in self.retry else {})
            return self.loaded.get(script)

    def load(self, script):
        if CGI(script):
            return CgiScript(script.lstrip("/"), self.wrap)
        script = (self.default or "main:app") if script == "auto" else script
        module, colon, names = script.partition(":" if ":" in script else ".")
        found = import_module(module)
        for name in names.split("."):
            if not hasattr(found, name) and hasattr(found, "__path__"):
                import_module(found.__name__ + "." + name)
            found = getattr(found, name)
        return self.wrap(found)

    def __call__(self, environ, start_response):
        """The one WSGI application that either server runs: calls the script the proxy has named."""
        script = environ.pop("HTTP_X_COMPAT_SCRIPT", None) or self.default
        show_the_site(environ)
        LOCAL.environ, LOCAL.variables, LOCAL.callbacks, parts = environ.copy(), None, [], ()
        try:
            app = script and (self.loaded.get(script) or self.find(script))
            parts = app(environ, start_response) if app else refuse(script, start_response)
            for part in parts:
                if LOCAL.environ["REQUEST_METHOD"] != "HEAD":  # gunicorn 19 would send it
                    yield part
        except (Exception, SystemExit):
            LOG.exception("%s did not answer %s", script, LOCAL.environ["PATH_INFO"])
            yield refuse(script, start_response, sys.exc_info())[0]  # raises it again when the head is sent
        finally:
            guarded("close of an answer failed", getattr(parts, "close", int))
            for call in LOCAL.callbacks:  # j.8
                guarded("a request-end callback failed", call, LOCAL.environ.get(TRACE))
            LOCAL.environ = LOCAL.variables = LOCAL.callbacks = None

def lend(name):
    """A `google.appengine` module that old apps import before their own libraries are found; the SDK's where it is."""
    parent = None
    for part in [name[:dot.start()] for dot in re.finditer(r"\.|$", name)]:
        try:
            module = import_module(part)
        except ImportError:
            module = sys.modules[part] = types.ModuleType(part)
            module.__path__ = [] if parent else [os.path.abspath(folder) for folder in glob.glob("*/google")]
            setattr(parent or module, part.rpartition(".")[2], module)
        parent = module
    return parent

def vendor_add(folder, index=1):
    rest, sys.path[index:] = sys.path[index:], []
    site.addsitedir(os.path.abspath(folder))
    sys.path.extend(rest)
    sys.modules["google"].__path__.append(os.path.join(os.path.abspath(folder), "google"))

def catch_applications():
    """What hands an application to a CGI server hands it to us while a CGI script is being loaded (j.3)."""
    def caught(serve):
        return lambda *args: serve(*args) if LOCAL.caught is None else LOCAL.caught.append(args[-1])
    from wsgiref import handlers
    handlers.BaseHandler.run = caught(handlers.BaseHandler.run)
    serve = handlers.CGIHandler().run
    util = lend("google.appengine.ext.webapp.util")
    for name in ("run_wsgi_app", "run_bare_wsgi_app"):
        setattr(util, name, caught(getattr(util, name, serve)))
    sys.stdin, sys.stdout = PerThread("stdin"), PerThread("stdout")

class PerThread(object):
    """A standard stream that the CGI script of one thread has to itself."""
    def __init__(self, name):
        self.name, self.usual = name, getattr(sys, name)
    def __getattr__(self, attribute):
        return getattr(getattr(LOCAL, self.name) or self.usual, attribute)

class CgiScript(object):
    """`script: foo.py`: the application it hands over is kept; one that prints its answer runs for each request."""
    lock = threading.Lock()  # a script is `__main__` while it runs, so one at a time
    def __init__(self, path, wrap):
        with open(path, "rb") as script:
            source = script.read()
        self.path, self.wrap, self.app, self.code = path, wrap, None, compile(source, path, "exec", 0, True)
        if re.search(br"run_wsgi_app|run_bare_wsgi_app|CGIHandler|\.run\(", source):
            self.run(b"")

    def run(self, body):
        """Runs the script as `__main__`: keeps the application it hands over, returns what it prints."""
        main, self.module = sys.modules["__main__"], types.ModuleType("__main__")
        sys.modules["__main__"], self.module.__file__ = self.module, self.path
        LOCAL.caught, LOCAL.stdin = [], StringIO(body) if PY2 else io.TextIOWrapper(io.BytesIO(body), "utf-8")
        LOCAL.stdout = printed = StringIO() if PY2 else io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n")
        try:
            exec(self.code, self.module.__dict__)
        except SystemExit:
            pass
        finally:
            caught, sys.modules["__main__"] = LOCAL.caught, main
            LOCAL.caught = LOCAL.stdin = LOCAL.stdout = None
        self.app = self.wrap(caught[0]) if caught else None
        printed.flush()
        return printed.getvalue() if PY2 else printed.buffer.getvalue()

    def __call__(self, environ, start_response):
        if self.app is None:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"], os.environ["GATEWAY_INTERFACE"] = io.BytesIO(body), "CGI/1.1"
            with self.lock:
                printed = self.run(body) if self.app is None else b""
        if self.app is not None:
            return self.app(environ, start_response)
        head, page = re.split(br"\r?\n\r?\n", printed, 1)
        fields = [line.split(":", 1) for line in latin(head).splitlines()]
        headers = [(name.strip().title(), value.strip()) for name, value in fields]
        status = dict(headers).get("Status", "302 Found" if "Location" in dict(headers) else "200 OK")
        start_response(status, [header for header in headers if header[0] != "Status"])
        return [page]

def refuse(script, start_response, error=None):
    status, text = ("500 Internal Server Error", b"The app failed.") if script else ("404 Not Found", b"Not found.")
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))], error)
    return [text]

def show_the_site(environ):
    """The environ tells of the site and its client, not of the way between the proxy and us."""
    get = environ.get
    scheme = {"on": "https", "off": "http"}.get(get("HTTP_X_APPENGINE_HTTPS")) or get("HTTP_X_FORWARDED_PROTO", "http")
    site = get("HTTP_HOST") or environ["SERVER_NAME"] or "localhost"
    host, port = site.rpartition(":")[::2] if ":" in site and site[-1].isdigit() else (site, "")
    client = get("HTTP_X_APPENGINE_REMOTE_ADDR") or get("HTTP_X_APPENGINE_USER_IP") or get("REMOTE_ADDR", "")
    environ.update({"SERVER_NAME": host, "SERVER_PORT": port or ("443" if scheme == "https" else "80"),
                    "REMOTE_ADDR": client, "wsgi.url_scheme": scheme, "wsgi.multiprocess": True})
    environ.pop("HTTP_X_COMPAT_HANDLER", None)

class Connection(StreamRequestHandler):
    """One kept-alive connection from the proxy, answered by one thread."""
    rbufsize, keep = 65536, True
    disable_nagle_algorithm = property(lambda self: self.request.family == socket.AF_INET)

    def handle(self):
        self.request.settimeout(None)
        for line in iter(lambda: self.rfile.readline(LINE) if self.keep and not self.server.stopping else b"", b""):
            self.server.busy.add(self)
            try:
                self.answer(self.parse(line))
            finally:
                self.server.busy.discard(self)

    def parse(self, line):
        method, target, protocol = latin(line).split()
        path, mark, query = target.partition("?")
        environ = dict(self.server.environ, REQUEST_METHOD=method, PATH_INFO=unquote(path), QUERY_STRING=query,
                       REQUEST_URI=target, RAW_URI=target, SERVER_PROTOCOL=protocol)
        for line in iter(lambda: self.rfile.readline(LINE) or self.gone(), b"\r\n"):
            name, colon, value = latin(line).partition(":")
            key, value = "HTTP_" + name.upper().replace("-", "_"), value.strip()
            if key in environ:
                value = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + value
            if "_" not in name:  # it would pass for `-`
                environ[key] = value
        environ.update((key, environ.pop("HTTP_" + key, "")) for key in ("CONTENT_TYPE", "CONTENT_LENGTH"))
        if environ.pop("HTTP_EXPECT", "").lower() == "100-continue":
            self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunked = environ.pop("HTTP_TRANSFER_ENCODING", "") == "chunked"
        environ["wsgi.input"] = io.BytesIO(b"".join(self.body(int(environ["CONTENT_LENGTH"] or 0), chunked)))
        return environ

    def gone(self):
        raise IOError("the client went away in the middle of its request")

    def body(self, length, chunked):
        """All of it before the application is called: a slow client holds none of its threads."""
        while length or chunked:
            length = int(self.rfile.readline(LINE).split(b";")[0], 16) if chunked else length
            piece = self.rfile.read(length)
            yield piece if len(piece) == length else self.gone()
            while chunked and self.rfile.readline(LINE).strip() and not length:
                pass  # the line that ends a chunk, or all the trailers
            length, chunked = 0, chunked and length > 0

    def answer(self, environ):
        self.sent, self.left, self.silent = False, None, environ["REQUEST_METHOD"] == "HEAD"
        self.chunked = environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        self.keep = self.chunked and environ.get("HTTP_CONNECTION", "").lower() != "close"
        with contextlib.closing(self.server.app(environ, self.start)) as parts:
            for part in parts:
                part and self.write(part)
            if not self.sent:
                self.write(b"", 0)
            if self.chunked:
                self.request.sendall(b"0\r\n\r\n")
        self.keep = self.keep and (self.silent or not self.left)

    def start(self, status, headers, error=None):
        if self.sent and error:
            raise error[1]
        if any("\n" in text or "\r" in text for header in headers for text in header):
            raise ValueError("a line break in a response header")
        self.status, self.headers = status, headers
        return self.write

    def head(self, length):
        """The head with the framing HTTP/1.1 wants; `length` is the body's where it is known."""
        lines, ours = ["HTTP/1.1 " + self.status], ("connection", "keep-alive", "transfer-encoding", "content-length")
        lines += [name + ": " + value for name, value in self.headers if name.lower() not in ours]
        length = ([length] + [int(value) for name, value in self.headers if name.lower() == "content-length"])[-1]
        bodiless = self.status[:3] in ("204", "304")
        self.sent, self.left, self.silent = True, length, self.silent or bodiless
        self.chunked = self.chunked and length is None and not self.silent
        self.keep = self.keep and (self.silent or self.chunked or length is not None)
        lines += ["Content-Length: %d" % length] if length is not None and not bodiless else []
        lines += ["Transfer-Encoding: chunked"] * self.chunked + ["Connection: close"] * (not self.keep) + ["\r\n"]
        return "\r\n".join(lines) if PY2 else "\r\n".join(lines).encode("latin-1")

    def write(self, data, length=None):
        head = b"" if self.sent else self.head(length)
        if self.left is not None:
            data, self.left = data[:self.left], max(0, self.left - len(data))
        data = b"" if self.silent else b"%x\r\n%s\r\n" % (len(data), data) if self.chunked and data else data
        self.request.sendall(head + data)

class Server(ThreadingMixIn, TCPServer):
    """The built-in server: a thread for each connection; the proxy keeps their number down."""
    daemon_threads = allow_reuse_address = True
    request_queue_size, timeout, busy, stopping = 2048, 1, set(), False
    environ = {"wsgi.version": (1, 0), "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.run_once": False,
               "wsgi.input_terminated": True, "SCRIPT_NAME": "", "SERVER_NAME": ""}
    handle_error = lambda *_: None  # logged where it arose; the connection is cut, so nobody takes half for whole
    def run(self, app):
        self.app, (hear, ring), ready = app, socket.socketpair(), []
        ring.setblocking(False)
        signal.set_wakeup_fd(ring.fileno())  # whichever thread the signal meets: a handler runs in this one alone
        signal.signal(signal.SIGTERM, lambda *_: None)
        self.server_activate()
        while hear not in ready:
            try:
                ready = select.select([self, hear], [], [])[0]
                self in ready and self.handle_request()
            except select.error:  # Python 2: the signal itself
                pass
        self.stopping, _ = True, signal.signal(signal.SIGTERM, signal.SIG_IGN)  # said twice, it would end us halfway
        self.server_close()
        while self.busy: time.sleep(0.01)  # noqa: E701

def gunicorn_server(table, address):
    """One gunicorn with one worker. The app's gunicorn.conf.py is honoured, save what would fight the proxy."""
    from gunicorn.app.base import Application
    from gunicorn.workers import gthread  # noqa: F401, on Python 2 it may lack its `futures`
    bind = "%s:%d" % address if isinstance(address, tuple) else "unix:" + address  # 120 s: the proxy closes first
    settings = dict(worker_class="gthread", threads=table["threads"], keepalive=120, workers=1, bind=bind,
                    control_socket_disable=True,  # its path is the same for all our workers
                    limit_request_line=0, limit_request_field_size=0, limit_request_fields=1000)
    waiting, listen = [], socket.socket.listen
    def listen_later(sock, backlog):  # who accepts is ready
        waiting.append((sock.dup(), backlog)) if sock.getsockname() == address else listen(sock, backlog)
    class Gunicorn(Application):
        def load_config(self):
            for name in set(settings) & set(self.cfg.settings):
                self.cfg.set(name, settings[name])
            if os.path.exists("gunicorn.conf.py"):
                self.load_config_from_file("gunicorn.conf.py")
            for name, value in (("workers", 1), ("bind", [bind]), ("daemon", False), ("preload_app", False)):
                if self.cfg.settings[name].get() != value:
                    LOG.warning("launcher: `%s` of gunicorn.conf.py is not for a worker of the proxy: ignored", name)
                    self.cfg.set(name, value)
        def load(self):
            global LOCAL
            LOCAL = local()  # a gevent worker has changed what a thread is
            if self.cfg.errorlog == "-":
                logging.getLogger("gunicorn.error").handlers[:] = [JsonLog(sys.stderr)]
            scripts = Scripts(table)
            for sock, backlog in waiting:
                listen(sock, backlog)
            return scripts
    socket.socket.listen = listen_later
    Gunicorn().run()

def main():
    PY2 or __import__("faulthandler").register(16)  # SIGSTKFLT: a worker that hangs is asked where, then killed
    with open(sys.argv[1]) as file:
        table = json.load(file)
    logging.root.addHandler(JsonLog(sys.stderr)) or logging.root.setLevel(logging.INFO)
    for pair in table["env"].items():  # what the proxy has set already wins
        os.environ.setdefault(*[text.encode("utf-8") if PY2 else text for text in pair])
    address = (sys.argv[2:3] + [os.environ.get("COMPAT_PROXY_SOCKET")])[0] or ("127.0.0.1", int(os.environ["PORT"]))
    os.chdir(table["app_dir"])
    text = {} if PY2 else {"encoding": "utf-8", "errors": "backslashreplace"}
    sys.path[0], sys.argv[1:], sys.stdout = os.getcwd(), [], os.fdopen(os.dup(1), "w", 1, **text)  # line by line
    os.environ = Environment(os.environ)
    if table["server"] != "builtin":
        try:
            return gunicorn_server(table, address)
        except (ImportError, RuntimeError) as missing:
            LOG.info("launcher: %s: the built-in server answers; gunicorn has more to it: timeouts, hooks", missing)
    try:
        Server.address_family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        server = Server(address, Connection, False)
        os.path.exists(str(address)) and os.unlink(address)
        server.server_bind()  # now, but it listens when the application is there
    except socket.error as error:
        sys.exit("launcher: cannot listen on %s: %s" % (address, error))
    server.run(Scripts(table))
__name__ == "__main__" and main()
