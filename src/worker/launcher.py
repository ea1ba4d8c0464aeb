"""compat-proxy's launcher, `PYTHON launcher.py TABLE.json SOCKET`: loads the applications app.yaml names and serves
them to the proxy, which names one in a header of each request. One file, standard library only, Python 2.7 and 3.6 or
newer. j.1 to j.9 are rules of the specification."""
import contextlib, errno, glob, io, json, logging, os, re, select, signal, site, socket, sys, tempfile, threading, time
from importlib import import_module
from wsgiref.util import FileWrapper, is_hop_by_hop
PY2, ModuleType = sys.version_info[0] == 2, type(sys)
if PY2:
    from cStringIO import StringIO
    from urllib import unquote
    from UserDict import IterableUserDict as UserDict
    latin = str  # a WSGI string: bytes here, bytes in disguise on Python 3
else:
    from collections import UserDict
    from urllib.parse import unquote_to_bytes
    latin = lambda data: data.decode("latin-1")  # noqa: E731
    unquote = lambda text: latin(unquote_to_bytes(text.encode("latin-1")))  # noqa: E731

RETRY_AFTER, IN_MEMORY, TRACE = 10, 1 << 20, "HTTP_X_CLOUD_TRACE_CONTEXT"  # seconds, bytes
ONCE = select.EPOLLIN | select.EPOLLONESHOT  # the thread that is told of a request has its connection to itself
FIXED = "APPENGINE_RUNTIME APPLICATION_ID INSTANCE_ID BACKEND_ID CURRENT_MODULE_ID CURRENT_VERSION_ID".split()
RESERVED = dict.fromkeys("DATACENTER DEFAULT_VERSION_HOSTNAME HTTPS REQUEST_ID_HASH REQUEST_LOG_ID USER_EMAIL USER_ID "
                         "USER_NICKNAME USER_ORGANIZATION".split(), "")
RESERVED.update(AUTH_DOMAIN="gmail.com", USER_IS_ADMIN="0", SERVER_SOFTWARE="Google App Engine/0.71")
KEPT = set("bind workers daemon preload_app threads timeout graceful_timeout keepalive max_requests raw_env errorlog "
           "max_requests_jitter loglevel capture_output forwarded_allow_ips worker_tmp_dir on_starting when_ready "
           "pre_fork post_fork post_worker_init worker_int worker_abort worker_exit child_exit on_exit".split())
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
    except BaseException as error:
        if getattr(error, "errno", None) not in (errno.EPIPE, errno.ECONNRESET, errno.EINTR):  # who has gone, a signal
            LOG.exception("launcher: %s: %s: %s", what, type(error).__name__, error)

class Scripts(object):
    """The applications the proxy may ask for, by the text of their `script:`; one that fails harms no other."""
    def __init__(self, table):
        self.default, self.loaded, self.lock = table["default"], {}, threading.RLock()
        self.retry = dict.fromkeys(table["scripts"], 0)
        if not table["runtime"].startswith("python3"):
            lend("google.appengine.ext.vendor").add = vendor_add
            lend("google.appengine.ext.vmruntime.callback").SetRequestEndCallback = (
                lambda call: LOCAL.callbacks is None or LOCAL.callbacks.append(call))
        config = glob.glob("appengine_config*") and guarded("appengine_config", import_module, "appengine_config")
        self.wrap = getattr(config, "webapp_add_wsgi_middleware", lambda app: app)
        any(map(CGI, table["scripts"])) and catch_applications()
        for script in [each for each in table["scripts"] if "\\" not in each]:  # a template's is known at its request
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
        script = "main:app" if script == "auto" else script
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
                    yield part + b""  # text would fail, here where it is logged
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
            module = sys.modules[part] = ModuleType(part)
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
        source = open(path, "rb").read()
        self.path, self.wrap, self.app, self.code = path, wrap, None, compile(source, path, "exec", 0, True)
        if re.search(br"run_wsgi_app|run_bare_wsgi_app|CGIHandler|\.run\(", source):
            self.run(b"")
    def run(self, body):
        """Runs the script as `__main__`: keeps the application it hands over, returns what it prints."""
        main, self.module = sys.modules["__main__"], ModuleType("__main__")
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
    site = get("HTTP_HOST") or get("SERVER_NAME") or "localhost"
    host, port = site.rpartition(":")[::2] if ":" in site and site[-1].isdigit() else (site, "")
    client = get("HTTP_X_APPENGINE_REMOTE_ADDR") or get("HTTP_X_APPENGINE_USER_IP") or get("REMOTE_ADDR", "")
    environ.update({"SERVER_NAME": host, "SERVER_PORT": port or ("443" if scheme == "https" else "80"),
                    "REMOTE_ADDR": client, "wsgi.url_scheme": scheme, "wsgi.multiprocess": True})
    environ.pop("HTTP_X_COMPAT_HANDLER", None)

class Connection(object):
    """A kept-alive connection from the proxy, read and answered by the thread whose turn it is."""
    def __init__(self, server, sock):
        self.server, self.sock, self.buffer = server, sock, b""
    def fill(self):
        more = self.sock.recv(65536)
        if not more:
            raise socket.error(errno.ECONNRESET, "the proxy has gone, perhaps in the middle of a request")
        self.buffer += more
    def until(self, mark):
        while mark not in self.buffer:
            self.fill()
        found, mark, self.buffer = self.buffer.partition(mark)
        return found
    def parse(self):
        lines = latin(self.until(b"\r\n\r\n")).split("\r\n")
        method, target, protocol = lines[0].split()
        path, mark, query = target.partition("?")
        environ = dict(self.server.environ, REQUEST_METHOD=method, SCRIPT_NAME="", PATH_INFO=unquote(path),
                       QUERY_STRING=query, RAW_URI=target, SERVER_PROTOCOL=protocol)
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            key, value = name.upper().replace("-", "_"), value.strip()
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key
            if key in environ:
                value = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + value
            if "_" not in name:  # it would pass for `-`
                environ[key] = value
        if environ.pop("HTTP_EXPECT", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        environ["wsgi.input"] = self.body(int(environ.get("CONTENT_LENGTH") or 0), "HTTP_TRANSFER_ENCODING" in environ)
        environ["gunicorn.socket"] = self.sock  # websocket libraries ask for it
        return environ
    def body(self, length, chunked):
        """All of it before the application is called, for a slow client must not hold what that holds."""
        body = tempfile.SpooledTemporaryFile(IN_MEMORY) if length or chunked else io.BytesIO()
        for size in iter(lambda: int(self.until(b"\r\n").split(b";")[0], 16), 0) if chunked else [length]:
            while size > 0:
                self.buffer or self.fill()
                body.write(self.buffer[:size])
                self.buffer, size = self.buffer[size:], size - len(self.buffer)
            chunked and self.until(b"\r\n")
        chunked and self.until(b"\r\n")  # the proxy drops trailers
        body.seek(0)
        return body
    def answer(self):
        """Answers the request that has come, and any behind it. True if more may come."""
        environ = self.parse()
        self.sent, self.head, self.looks = False, None, environ["REQUEST_METHOD"] == "HEAD"
        self.keep = environ.get("HTTP_CONNECTION", "").lower() != "close"
        self.server.nr += 1
        with contextlib.closing(self.server.wsgi(environ, self.start)) as parts:
            for part in parts:
                part and self.write(part)
            (self.chunked or not self.sent) and self.write(b"")
        return self.keep and (self.silent or self.chunked or not self.left) and (not self.buffer or self.answer())
    def start(self, status, headers, error=None):
        """The head, framed as HTTP/1.1 wants it. What cannot be sent fails here, in the application's own call."""
        if self.sent and error:
            raise error[1]
        self.silent, self.keep = self.looks or status[:3] in ("204", "304"), self.keep and self.server.keeps()
        lengths = [int(value) for name, value in headers if name.lower() == "content-length"]
        self.left, self.chunked = lengths[0] if lengths else sys.maxsize, not lengths and not self.silent
        lines = ["HTTP/1.1 " + status] + [name + ": " + value for name, value in headers if not is_hop_by_hop(name)]
        if any("\n" in line or "\r" in line for line in lines):
            raise ValueError("a line break in a response header")
        lines += ["Transfer-Encoding: chunked"] * self.chunked + ["Connection: close"] * (not self.keep) + ["\r\n"]
        self.head = str("\r\n".join(lines)) if PY2 else "\r\n".join(lines).encode("latin-1")
        return lambda data: data and self.write(data)
    def write(self, data):
        """The head, if that is still to be sent, and a piece of the body; an empty one ends it."""
        data, self.left = data[:self.left], max(0, self.left - len(data))
        data = b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data
        self.sock.sendall(self.head if self.silent else self.head + data)
        self.sent, self.head = True, b""

class Server(object):
    """Threads that take turns at the connections with a request: the others, however many, hold none of them."""
    nr, alive, keepalive, ppid, notify = 0, True, True, os.getppid(), lambda self: None
    max_requests = graceful_timeout = leave = float("inf")
    environ = {"wsgi.version": (1, 0), "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.run_once": False,
               "wsgi.file_wrapper": FileWrapper, "wsgi.input_terminated": True, "SERVER_SOFTWARE": "compat-proxy"}
    keeps = lambda self: self.alive and self.nr < self.max_requests and self.cfg.keepalive
    def serve(self):
        self.epoll, doors, self.connections, self.busy = select.epoll(), select.epoll(), {}, set()
        doors.register(self.sockets[0].fileno(), select.EPOLLIN)
        for _ in range(self.cfg.threads):
            thread = threading.Thread(target=self.work)
            thread.daemon = True
            thread.start()
        while self.alive and self.ppid == os.getppid() and time.time() < self.leave:
            self.notify()
            if self.nr >= self.max_requests:  # the proxy drops what it keeps; until then it may send something there
                self.leave = min(self.leave, time.time() + (3 if self.connections else 0))
            try:
                doors.poll(0.2, 1) and self.accept()
            except EnvironmentError as error:  # a signal on Python 2, another worker was faster, no descriptor
                error.errno == errno.EINTR or LOG.warning("launcher: cannot accept a connection: %s", error)
                time.sleep(0.1)
        self.sockets[0].close()
        end = time.time() + self.cfg.graceful_timeout
        while (self.busy or self.connections and self.alive) and time.time() < end:  # told to end: idle ones may wait
            self.notify()
            time.sleep(0.01)
    def accept(self):
        sock = self.sockets[0].accept()[0]
        sock.settimeout(None)
        self.connections[sock.fileno()] = Connection(self, sock)
        self.epoll.register(sock.fileno(), ONCE)
    def work(self):
        while True:
            for fd, _ in guarded("cannot wait for requests", self.epoll.poll, -1, 1) or ():
                self.busy.add(fd)
                keep = guarded("a connection is cut", self.connections[fd].answer)
                self.busy.discard(fd)
                self.epoll.modify(fd, ONCE) if keep else self.connections.pop(fd).sock.close()

def gunicorn_server(table, path):
    """One gunicorn with one worker. The app's gunicorn.conf.py is honoured, save what would fight the proxy."""
    from gunicorn.app.base import Application
    from gunicorn.http.wsgi import base_environ
    from gunicorn.workers.base import Worker
    global LauncherWorker
    class LauncherWorker(Worker, Server):
        """Gunicorn's in all but reading requests and writing answers, for which its own take five times as long."""
        def run(self):
            self.environ = dict(base_environ(self.cfg), **{"wsgi.multithread": True})
            self.serve()
    settings = dict(worker_class="__main__.LauncherWorker", threads=table["threads"], workers=1, bind="unix:" + path,
                    keepalive=120, control_socket_disable=True,  # the proxy closes first; all workers had one path
                    limit_request_line=0, limit_request_field_size=0, limit_request_fields=1000)
    waiting, listen = [], socket.socket.listen
    def listen_later(sock, backlog):  # who accepts is ready
        waiting.append((sock.dup(), backlog)) if sock.getsockname() == path else listen(sock, backlog)
    class Gunicorn(Application):
        def load_config(self):
            for name in set(settings) & set(self.cfg.settings):
                self.cfg.set(name, settings[name])
            before = {name: setting.get() for name, setting in self.cfg.settings.items()}
            if os.path.exists("gunicorn.conf.py"):
                self.load_config_from_file("gunicorn.conf.py")
            changed = {name for name, setting in self.cfg.settings.items() if setting.get() != before[name]}
            for name in changed.intersection(["workers", "bind", "daemon", "preload_app"]):
                LOG.warning("launcher: `%s` of gunicorn.conf.py is not for a worker of the proxy: ignored", name)
                self.cfg.set(name, before[name])
            if not changed <= KEPT:
                LOG.info("launcher: gunicorn's own worker answers: %s in gunicorn.conf.py", sorted(changed - KEPT))
                "worker_class" in changed or self.cfg.set("worker_class", "gthread")
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
    table = json.load(open(sys.argv[1]))
    logging.root.addHandler(JsonLog(sys.stderr)) or logging.root.setLevel(logging.INFO)
    path, text = sys.argv[2], {} if PY2 else {"encoding": "utf-8", "errors": "backslashreplace"}
    sys.path[0], sys.argv[1:], sys.stdout = os.getcwd(), [], os.fdopen(os.dup(1), "w", 1, **text)  # line by line
    os.environ = Environment(os.environ)
    try:
        return gunicorn_server(table, path)
    except ImportError as missing:
        LOG.info("launcher: %s: the built-in server answers; gunicorn has more to it: timeouts, hooks", missing)
    server, listener = Server(), socket.socket(socket.AF_UNIX)
    server.cfg, server.threads, server.sockets, server.wsgi = server, table["threads"], [listener], Scripts(table)
    listener.bind(path)
    listener.listen(2048)
    signal.signal(signal.SIGTERM, lambda *_: setattr(server, "alive", False))
    server.serve()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # said twice, it would end us halfway
__name__ == "__main__" and main()
