// SPDX-License-Identifier: Apache-2.0
//
// The parts of the server that need no connection: addresses, hosts, types, forms, frames.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tools/base/error.h"
#include "tools/monitor/server/http.h"
#include "tools/monitor/server/listen.h"
#include "tools/monitor/server/request_frame.h"

namespace tarn::tool {
namespace {

TEST(Listen, Addresses) {
  EXPECT_EQ(ParseListenAddress("127.0.0.1:80").port, 80);
  EXPECT_EQ(ParseListenAddress("9464").host, "127.0.0.1");
  EXPECT_EQ(ParseListenAddress("localhost:1").host, "127.0.0.1");
  EXPECT_EQ(ParseListenAddress("[::1]:1").host, "::1");
  EXPECT_EQ(ParseListenAddress("unix:/run/x").unix_path, "/run/x");
  EXPECT_TRUE(ParseListenAddress("127.1.2.3:0").is_loopback());
  EXPECT_TRUE(ParseListenAddress("[::1]:0").is_loopback());
  EXPECT_FALSE(ParseListenAddress("0.0.0.0:0").is_loopback());
  for (const char* wrong : {"", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80",
                            "example.org:80", "127.0.0.1:80x", "unix:", "[::1]", "1.2.3:4"})
    EXPECT_THROW(ParseListenAddress(wrong), UsageError) << wrong;
  EXPECT_THROW(ParseListenAddress("unix:/" + std::string(200, 'x')), UsageError);
}

TEST(Listen, HostsThatAreAnswered) {
  const HostRule loopback(ParseListenAddress("127.0.0.1:80"), {"Monitor.Example", "other:80"});
  for (const char* host : {"localhost", "localhost:80", "LocalHost.:80", "127.0.0.1:9", "127.9.9.9", "[::1]:80",
                           "[::1]", "monitor.example:80", "other"})
    EXPECT_TRUE(loopback.Allows(host)) << host;
  for (const char* host : {"", "evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example",
                           "192.0.2.1", "[2001:db8::1]:80", "monitor.example.evil", "["})
    EXPECT_FALSE(loopback.Allows(host)) << host;
  const HostRule one(ParseListenAddress("192.0.2.1:80"), {});
  EXPECT_TRUE(one.Allows("192.0.2.1:80"));
  EXPECT_FALSE(one.Allows("192.0.2.2:80"));
  const HostRule any(ParseListenAddress("0.0.0.0:80"), {});
  EXPECT_TRUE(any.Allows("192.0.2.2:80"));
  EXPECT_FALSE(any.Allows("evil.example"));
}

TEST(Http, PreferredType) {
  const std::vector<std::string_view> types = {"text/plain", "application/openmetrics-text", "application/json"};
  const auto preferred = [&](std::string_view accept) { return PreferredType(accept, types); };
  EXPECT_EQ(preferred(""), 0);
  EXPECT_EQ(preferred("*/*"), 0);
  EXPECT_EQ(preferred("application/json"), 2);
  EXPECT_EQ(preferred("Application/JSON"), 2);
  EXPECT_EQ(preferred("application/*"), 1);
  EXPECT_EQ(preferred("text/html"), -1);
  // Prometheus 2.42's own, and that of browsers.
  EXPECT_EQ(preferred("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
                      "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
            1);
  EXPECT_EQ(preferred("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), 0);
  EXPECT_EQ(preferred("text/plain;q=0.2, application/json;q=0.9"), 2);
  EXPECT_EQ(preferred("text/plain;q=0, */*"), 1);
  EXPECT_EQ(preferred("text/plain;q=x"), -1);
  EXPECT_EQ(preferred(",;,q=,/"), -1);
}

TEST(Http, FormParameters) {
  using Parameters = std::map<std::string, std::string>;
  EXPECT_EQ(FormParameters(""), Parameters());
  EXPECT_EQ(FormParameters("a=1&b=%32+x&a=3&c&=d"), (Parameters{{"a", "1"}, {"b", "2 x"}, {"c", ""}, {"", "d"}}));
  EXPECT_EQ(FormParameters("a=%"), (Parameters{{"a", "%"}}));
  EXPECT_EQ(FormParameters("a=%4"), (Parameters{{"a", "%4"}}));
  EXPECT_EQ(FormParameters("a=%4g%41"), (Parameters{{"a", "%4gA"}}));
}

TEST(Http, Frames) {
  const auto frame = [](const std::string& headers) {
    return ReadFrame("POST /a?b HTTP/1.1\r\n" + headers + "\r\n", 100);
  };
  const std::string head = "POST /a?b HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:\t 7 \r\n\r\n";
  EXPECT_EQ(ReadFrame(head, 100).method, "POST");
  EXPECT_EQ(ReadFrame(head, 100).path, "/a");
  EXPECT_EQ(ReadFrame(head, 100).body_bytes, 7u);
  EXPECT_EQ(ReadFrame(head, 100).refusal, 0);
  EXPECT_EQ(frame("").body_bytes, 0u);
  EXPECT_EQ(frame("Content-Length: 100\r\n").body_bytes, 100u);
  EXPECT_EQ(frame("Content-Length: 101\r\n").refusal, 413);
  EXPECT_EQ(frame("Content-Length: 99999999999999999999999999\r\n").refusal, 413);
  EXPECT_EQ(frame("Transfer-Encoding: identity\r\nContent-Length: 1\r\n").refusal, 411);
  for (const char* wrong : {"Content-Length: \r\n", "Content-Length: +1\r\n", "Content-Length: 1 1\r\n",
                            "Content-Length: 1\r\nContent-Length: 2\r\n", "a: b\n\r\n", "a: b\rc\r\n", " a: b\r\n"})
    EXPECT_EQ(frame(wrong).refusal, 400) << wrong;
  // Anything may come.
  for (const char* text : {"", "\r\n\r\n", "POST\r\n\r\n", "POST \r\n\r\n", " / \r\n\r\n", "POST /"})
    EXPECT_EQ(ReadFrame(text, 100).body_bytes, 0u) << text;
}

}  // namespace
}  // namespace tarn::tool
