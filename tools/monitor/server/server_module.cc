// SPDX-License-Identifier: Apache-2.0
//
// The only file that includes cpp-httplib, and the whole of the module. Of cpp-httplib we use what parses a request and
// writes a response (process_request); sockets, threads and time limits are our own, because its own loop gives a
// thread to each connection, and waits for slow clients in it.
#include "tools/monitor/server/server_module.h"

#include <fmt/format.h>
#include <httplib.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tools/monitor/server/request_frame.h"

namespace tarn::tool {

namespace {

using Clock = std::chrono::steady_clock;

Clock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// After a refusal the client may still be sending; closing at once would take the answer from it.
constexpr double kDrainSeconds = 1;
constexpr std::string_view kRequestEnd = "\r\n\r\n";

struct Connection {
  enum State { kReading, kAnswering, kDraining };
  int fd = -1;
  State state = kReading;
  std::string received;  // and not answered yet
  // Of the request that is answered.
  std::size_t head_bytes = 0;
  std::size_t body_bytes = 0;
  bool takes_body = false;
  int requests = 0;
  Clock::time_point deadline;
  bool keeps = false;  // set by the worker: the connection goes on after the answer

  ~Connection() { close(fd); }
  bool is_idle() const { return state == kReading && received.empty(); }
};

// A whole request from memory, and the answer to the socket.
class ConnectionStream : public httplib::Stream {
 public:
  ConnectionStream(std::string request, int fd) : request_(std::move(request)), fd_(fd) {}
  bool is_readable() const override { return at_ < request_.size(); }
  bool is_writable() const override { return true; }
  ssize_t read(char* to, size_t bytes) override {
    bytes = std::min(bytes, request_.size() - at_);
    std::copy_n(request_.data() + at_, bytes, to);
    at_ += bytes;
    return static_cast<ssize_t>(bytes);
  }
  // cpp-httplib writes headers and body apart; together they are sent in fewer packets, and the client need not
  // acknowledge the first before it gets the second.
  ssize_t write(const char* from, size_t bytes) override {
    answer_.append(from, bytes);
    return static_cast<ssize_t>(bytes);
  }
  // False when the client did not take the answer in time, or is gone.
  bool Send(double seconds) {
    const auto deadline = Clock::now() + Seconds(seconds);
    std::string_view rest = answer_;
    while (!rest.empty()) {
      const ssize_t sent = send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) {
        rest.remove_prefix(static_cast<size_t>(sent));
      } else if (errno == EAGAIN) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        pollfd room{fd_, POLLOUT, 0};
        if (left <= 0 || poll(&room, 1, static_cast<int>(left)) <= 0) return false;
      } else if (errno != EINTR) {
        return false;
      }
    }
    return true;
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return fd_; }

 private:
  std::string request_;
  size_t at_ = 0;
  int fd_;
  std::string answer_;
};

bool HasBody(const httplib::Request& request) {
  return request.has_header("Transfer-Encoding") ||
         (request.has_header("Content-Length") && request.get_header_value("Content-Length") != "0");
}

// Answers one request at a time; each worker has one.
class Responder : public httplib::Server {
 public:
  Responder(const AllowsHost* allows_host, const HttpPages* pages, const ServerLimits& limits,
            const std::atomic<bool>* stops)
      : allows_host_(allows_host), pages_(pages), answer_s_(limits.answer_s), stops_(stops) {
    // The library names these in its answers.
    set_keep_alive_timeout(static_cast<time_t>(limits.keep_alive_s));
    set_keep_alive_max_count(static_cast<size_t>(limits.requests_per_connection));
    // Before cpp-httplib's own routing, whose patterns are regular expressions.
    set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      const HttpResponse answer = Answer(request);
      response.status = answer.status;
      response.set_content(answer.body, answer.content_type.c_str());
      for (const auto& [name, value] : answer.headers) response.set_header(name.c_str(), value.c_str());
      if (request.method == "HEAD") response.set_header("Accept-Ranges", "none");
      response.set_header("X-Content-Type-Options", "nosniff");
      response.set_header("Cache-Control", "no-store");
      // No page of another site may embed what is told here.
      response.set_header("Cross-Origin-Resource-Policy", "same-origin");
      return HandlerResponse::Handled;
    });
  }

  // The stream is the head, `body` what was read behind it, or null. True where the connection may go on.
  bool Respond(ConnectionStream* stream, const std::string* body, int fd, bool is_last) {
    fd_ = fd;
    body_ = body;
    bool closes = false;
    bool is_understood = false;
    const bool written = process_request(*stream, is_last, closes, [&](httplib::Request& request) {
      is_understood = true;
      // Ranges would let a small request ask for many copies of a large answer, and compression costs time.
      request.ranges.clear();
      request.headers.erase("Accept-Encoding");
      request.headers.erase("Expect");
      // The bytes behind the headers were not read, so nothing can follow them.
      if (body_ == nullptr && (HasBody(request) || (request.method != "GET" && request.method != "HEAD"))) {
        request.headers.erase("Connection");
        request.headers.emplace("Connection", "close");
        closes = true;
      }
    });
    return stream->Send(answer_s_) && written && is_understood && !closes && !is_last;
  }

 private:
  HttpResponse Answer(const httplib::Request& request) const {
    const std::string methods = pages_->methods(request.path);
    const bool reads = request.method == "GET" || request.method == "HEAD";
    const bool is_taken = body_ != nullptr || (reads && methods.starts_with(HttpPages::kReading));
    if (!is_taken && !methods.empty())
      return {405, std::string(kPlainText), fmt::format("only {} can be done here\n", methods), {{"Allow", methods}}};
    const std::size_t hosts = request.get_header_value_count("Host");
    if (hosts > 1 || (hosts == 0 && request.version != "HTTP/1.0"))
      return {400, std::string(kPlainText), "one header Host is needed\n", {}};
    const std::string host = request.get_header_value("Host");
    if (hosts == 1 && !(*allows_host_)(host)) {
      return {403,
              std::string(kPlainText),
              "this name of the server is not allowed; tarn serve --allow-host NAME allows one more\n",
              {}};
    }
    HttpRequest plain;
    plain.method = request.method;
    plain.path = request.path;
    const std::size_t question = request.target.find('?');
    if (question != std::string::npos) plain.query = request.target.substr(question + 1);
    for (const auto& [name, value] : request.params) plain.parameters.try_emplace(name, value);
    plain.accept = request.get_header_value("Accept");
    plain.host = host;
    plain.origin = request.get_header_value("Origin");
    plain.control = request.get_header_value("X-Tarn-Control");
    if (body_ != nullptr) plain.body = *body_;
    plain.is_abandoned = [this] {
      pollfd gone{fd_, POLLRDHUP, 0};
      return stops_->load() || (poll(&gone, 1, 0) > 0 && (gone.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0);
    };
    try {
      return pages_->answer(plain);
    } catch (const std::exception& error) {
      return {500, std::string(kPlainText), fmt::format("{}\n", error.what()), {}};
    }
  }

  const AllowsHost* allows_host_;
  const HttpPages* pages_;
  double answer_s_;
  const std::atomic<bool>* stops_;
  int fd_ = -1;
  const std::string* body_ = nullptr;
};

class Connections final : public ServerCore {
 public:
  Connections(int listener, AllowsHost allows_host, HttpPages pages, const ServerLimits& limits)
      : listener_(listener),
        wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        allows_host_(std::move(allows_host)),
        pages_(std::move(pages)),
        limits_(limits) {}
  ~Connections() override {
    Stop();
    close(wake_);
    close(listener_);
  }

  void Start() override {
    threads_.emplace_back([this] { Wait(); });
    for (std::size_t i = 0; i < limits_.workers; ++i) threads_.emplace_back([this] { Work(); });
    for (std::thread& thread : threads_) pthread_setname_np(thread.native_handle(), "tarn-http");
  }

  void Stop() override {
    {
      const std::lock_guard lock(mutex_);
      stops_ = true;
    }
    work_.notify_all();
    Wake();
    if (threads_.empty()) return;
    threads_.front().join();
    // Nobody else touches the connections now. A worker may still wait for a slow client.
    for (const auto& connection : connections_) shutdown(connection->fd, SHUT_RDWR);
    for (std::size_t i = 1; i < threads_.size(); ++i) threads_[i].join();
    threads_.clear();
    connections_.clear();
  }

 private:
  void Wake() const {
    const std::uint64_t one = 1;
    // It fails only when the counter is full, and then the thread will wake as well.
    static_cast<void>(write(wake_, &one, sizeof one));
  }

  // The thread of all connections.
  void Wait() {
    std::vector<pollfd> events;
    std::vector<Connection*> waiting;
    while (!stops_) {
      events.assign({{wake_, POLLIN, 0}, {Clock::now() < accept_again_ ? -1 : listener_, POLLIN, 0}});
      waiting.clear();
      for (const auto& connection : connections_) {
        if (connection->state == Connection::kAnswering) continue;
        events.push_back({connection->fd, POLLIN, 0});
        waiting.push_back(connection.get());
      }
      if (poll(events.data(), events.size(), MillisecondsToWait(waiting)) < 0 && errno != EINTR) return;
      std::uint64_t count = 0;
      static_cast<void>(read(wake_, &count, sizeof count));
      TakeBack();
      for (std::size_t i = 0; i < waiting.size(); ++i) {
        if (events[i + 2].revents != 0) Receive(waiting[i]);
      }
      const auto now = Clock::now();
      std::erase_if(connections_, [&](const auto& connection) {
        if (connection->state == Connection::kAnswering || connection->deadline > now) return false;
        if (connection->state == Connection::kReading && !connection->received.empty())
          Refuse(connection.get(), 408, "Request Timeout");
        // Unless it was given time to read the refusal.
        return connection->deadline <= now;
      });
      if (events[1].revents != 0) Accept();
    }
  }

  int MillisecondsToWait(const std::vector<Connection*>& waiting) const {
    auto next = Clock::now() + Seconds(60);
    for (const Connection* connection : waiting) next = std::min(next, connection->deadline);
    if (accept_again_ > Clock::now()) next = std::min(next, accept_again_);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
    return static_cast<int>(std::max<std::int64_t>(left, 0));
  }

  void Accept() {
    for (int fd; (fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
      auto connection = std::make_unique<Connection>();
      connection->fd = fd;
      // Answers are sent whole; the last packet of one waits for nothing. Of no effect on a socket of the file system.
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      connection->deadline = Clock::now() + Seconds(limits_.request_s);
      if (connections_.size() >= limits_.connections && !DropIdle()) {
        Refuse(connection.get(), 503, "Service Unavailable");
        continue;
      }
      connections_.push_back(std::move(connection));
    }
    // No descriptor is left, as a rule: to try at once again would only burn time.
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) accept_again_ = Clock::now() + Seconds(0.1);
  }

  // Makes room: of the connections that ask nothing, the one that has done so for longest.
  bool DropIdle() {
    const auto oldest = std::ranges::min_element(connections_, {}, [](const auto& connection) {
      return connection->is_idle() ? connection->deadline : Clock::time_point::max();
    });
    if (oldest == connections_.end() || !(*oldest)->is_idle()) return false;
    connections_.erase(oldest);
    return true;
  }

  void Receive(Connection* connection) {
    char bytes[8 << 10];
    const ssize_t count = recv(connection->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
      connection->received.clear();
      connection->state = Connection::kDraining;
      connection->deadline = Clock::now();
      return;
    }
    if (connection->state == Connection::kDraining) return;
    if (connection->received.empty()) connection->deadline = Clock::now() + Seconds(limits_.request_s);
    connection->received.append(bytes, static_cast<std::size_t>(count));
    Dispatch(connection);
  }

  // Hands a request over to the workers when it is whole.
  void Dispatch(Connection* connection) {
    const std::size_t end = connection->received.find(kRequestEnd);
    if (end == std::string::npos && connection->received.size() <= limits_.request_bytes) return;
    if (end > limits_.request_bytes) {
      Refuse(connection, 431, "Request Header Fields Too Large");
      return;
    }
    const std::string_view head(connection->received.data(), end + kRequestEnd.size());
    const RequestFrame frame = ReadFrame(head, limits_.body_bytes);
    connection->head_bytes = head.size();
    connection->body_bytes = 0;
    connection->takes_body = TakesBody(frame);
    if (connection->takes_body) {
      if (frame.refusal != 0) {
        Refuse(connection, frame.refusal,
               frame.refusal == 413   ? "Content Too Large"
               : frame.refusal == 411 ? "Length Required"
                                      : "Bad Request");
        return;
      }
      // The rest comes under the same deadline.
      if (connection->received.size() - head.size() < frame.body_bytes) return;
      connection->body_bytes = frame.body_bytes;
    }
    connection->state = Connection::kAnswering;
    {
      const std::lock_guard lock(mutex_);
      to_answer_.push_back(connection);
    }
    work_.notify_one();
  }

  bool TakesBody(const RequestFrame& frame) const {
    return frame.method == "POST" && pages_.methods(frame.path).ends_with("POST");
  }

  // The connections that the workers have done with.
  void TakeBack() {
    std::deque<Connection*> answered;
    {
      const std::lock_guard lock(mutex_);
      answered.swap(answered_);
    }
    for (Connection* connection : answered) {
      connection->state = connection->keeps ? Connection::kReading : Connection::kDraining;
      connection->deadline = Clock::now() + Seconds(connection->keeps ? limits_.keep_alive_s : kDrainSeconds);
      if (!connection->keeps) {
        connection->received.clear();
        shutdown(connection->fd, SHUT_WR);
      } else if (!connection->received.empty()) {
        connection->deadline = Clock::now() + Seconds(limits_.request_s);
        Dispatch(connection);
      }
    }
  }

  void Refuse(Connection* connection, int status, std::string_view reason) {
    const std::string text = fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: "
        "close\r\n\r\n{}\n",
        status, reason, reason.size() + 1, reason);
    static_cast<void>(send(connection->fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    shutdown(connection->fd, SHUT_WR);
    connection->received.clear();
    connection->state = Connection::kDraining;
    connection->deadline = Clock::now() + Seconds(kDrainSeconds);
  }

  // A worker's thread.
  void Work() {
    Responder responder(&allows_host_, &pages_, limits_, &stops_);
    while (true) {
      Connection* connection = nullptr;
      {
        std::unique_lock lock(mutex_);
        work_.wait(lock, [this] { return stops_ || !to_answer_.empty(); });
        if (stops_) return;
        connection = to_answer_.front();
        to_answer_.pop_front();
      }
      // Nobody else touches the connection now.
      std::string& received = connection->received;
      ConnectionStream stream(received.substr(0, connection->head_bytes), connection->fd);
      const std::string body = received.substr(connection->head_bytes, connection->body_bytes);
      received.erase(0, connection->head_bytes + connection->body_bytes);
      const bool is_last = ++connection->requests >= limits_.requests_per_connection;
      connection->keeps = responder.Respond(&stream, connection->takes_body ? &body : nullptr, connection->fd, is_last);
      {
        const std::lock_guard lock(mutex_);
        answered_.push_back(connection);
      }
      Wake();
    }
  }

  int listener_;
  int wake_;
  AllowsHost allows_host_;
  HttpPages pages_;
  ServerLimits limits_;
  // Of the thread of all connections alone.
  std::vector<std::unique_ptr<Connection>> connections_;
  Clock::time_point accept_again_{};
  std::vector<std::thread> threads_;

  std::mutex mutex_;  // for all that follows; stops_ may be read without it
  std::condition_variable work_;
  std::atomic<bool> stops_ = false;
  std::deque<Connection*> to_answer_;
  std::deque<Connection*> answered_;
};

}  // namespace

ServerCore* MakeServerCore(int listener, AllowsHost allows_host, HttpPages pages, const ServerLimits& limits) {
  return new Connections(listener, std::move(allows_host), std::move(pages), limits);
}

}  // namespace tarn::tool
