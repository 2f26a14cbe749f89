import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** An upload with the HTTP client of the JDK as it is by default: Upload.java URL FILE PIECE. */
public class Upload {
    static final HttpClient CLIENT = HttpClient.newHttpClient();
    static String url;

    static HttpResponse<String> packet(String kind, byte[] body, String... fields) throws Exception {
        var publisher = body == null ? BodyPublishers.noBody() : BodyPublishers.ofByteArray(body);
        var request = HttpRequest.newBuilder(URI.create(url)).header("BITS-Packet-Type", kind)
                .headers(fields).method("BITS_POST", publisher).build();
        var answer = CLIENT.send(request, BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new Exception(kind + ": " + answer.statusCode() + " " + answer.headers());
        }
        return answer;
    }

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        byte[] content = Files.readAllBytes(Path.of(arguments[1]));
        int piece = Integer.parseInt(arguments[2]);
        var created = packet("Create-Session", null,
                "BITS-Supported-Protocols", "{7df0354d-249b-430f-820d-3d2a9bef4931}").headers();
        String id = created.firstValue("BITS-Session-Id").orElseThrow();
        created.firstValue("BITS-Host-Id").ifPresent(host -> url = url.replaceFirst("//[^:/]*", "//" + host));
        for (int first = 0; first < content.length; first += piece) {
            int end = Math.min(content.length, first + piece);
            packet("Fragment", Arrays.copyOfRange(content, first, end), "BITS-Session-Id", id,
                    "Content-Range", "bytes " + first + "-" + (end - 1) + "/" + content.length);
        }
        packet("Close-Session", null, "BITS-Session-Id", id);
    }
}
