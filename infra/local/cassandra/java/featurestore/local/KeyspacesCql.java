package featurestore.local;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Rewrites the DDL of Amazon Keyspaces into what Cassandra stores; every other statement passes through untouched. */
final class KeyspacesCql {
    // Possessive, so that a statement of any length needs no stack: comments, strings, quoted names, words, single characters.
    private static final Pattern TOKEN = Pattern.compile(
        "\\s++|--[^\\n]*+|//[^\\n]*+|/\\*.*?\\*/|\\$\\$.*?\\$\\$|'(?:[^']|'')*+'|\"(?:[^\"]|\"\")*+\"|\\w++|.", Pattern.DOTALL);
    private static final Set<String> KEYSPACES_ONLY =
        Set.of("custom_properties", "tags", "autoscaling_settings", "client_side_timestamps");

    private KeyspacesCql() {}

    /** The statement as Cassandra accepts it, with every replica in the one datacenter there is. */
    static String translate(String cql, String datacenter) {
        List<String> tokens = tokens(cql);
        List<String> words = words(tokens, 2);
        if (words.size() < 2 || !Set.of("create", "alter").contains(words.get(0)) || !Set.of("table", "keyspace").contains(words.get(1)))
            return cql;
        int with = indexOfTopLevel(tokens, "with", 0);
        if (with < 0) return cql;
        List<String> kept = new ArrayList<>();
        for (List<String> option : options(tokens.subList(with + 1, tokens.size()))) {
            String name = words(option, 1).stream().findFirst().orElse("");
            if (!KEYSPACES_ONLY.contains(name)) kept.add(name.equals("replication") ? replication(option, datacenter) : text(option));
        }
        // An ALTER that changed nothing but Keyspaces' own properties must still name something: the value that it has anyway.
        if (kept.isEmpty() && words.get(0).equals("alter"))
            kept.add(words.get(1).equals("table") ? "memtable_flush_period_in_ms = 0" : "durable_writes = true");
        String head = String.join("", tokens.subList(0, with)).stripTrailing();
        return kept.isEmpty() ? head : head + " WITH " + String.join(" AND ", kept);
    }

    /** Keyspaces keeps three replicas whatever is asked for; on one node a quorum must be reached with one. */
    private static String replication(List<String> option, String datacenter) {
        String text = text(option);
        String lower = text.toLowerCase(Locale.ROOT);
        if (!lower.contains("singleregionstrategy") && !lower.contains("networktopologystrategy")) return text;
        return "replication = {'class': 'NetworkTopologyStrategy', '" + datacenter + "': 1}";
    }

    private static List<String> tokens(String cql) {
        List<String> tokens = new ArrayList<>();
        Matcher matcher = TOKEN.matcher(cql);
        while (matcher.find()) tokens.add(matcher.group());
        return tokens;
    }

    private static boolean isBlank(String token) {
        return token.isBlank() || token.startsWith("--") || token.startsWith("//") || token.startsWith("/*");
    }

    /** The first words, in lower case, comments and blanks left out. */
    private static List<String> words(List<String> tokens, int count) {
        List<String> words = new ArrayList<>();
        for (String token : tokens) {
            if (words.size() == count) break;
            if (!isBlank(token)) words.add(token.toLowerCase(Locale.ROOT));
        }
        return words;
    }

    private static int indexOfTopLevel(List<String> tokens, String word, int from) {
        int depth = 0;
        for (int i = from; i < tokens.size(); i++) {
            depth += depthChange(tokens.get(i));
            if (depth == 0 && tokens.get(i).equalsIgnoreCase(word)) return i;
        }
        return -1;
    }

    private static int depthChange(String token) {
        if (token.length() != 1) return 0;
        return "({[".contains(token) ? 1 : ")}]".contains(token) ? -1 : 0;
    }

    /** What stands between the ANDs of a WITH clause. */
    private static List<List<String>> options(List<String> clause) {
        List<List<String>> options = new ArrayList<>();
        int start = 0;
        for (int and; (and = indexOfTopLevel(clause, "and", start)) >= 0; start = and + 1) options.add(clause.subList(start, and));
        options.add(clause.subList(start, clause.size()));
        return options;
    }

    /** Tokens as text, without comments (one that runs to the line's end would swallow what is joined on) and the semicolon. */
    private static String text(List<String> tokens) {
        StringBuilder text = new StringBuilder();
        for (String token : tokens) if (!token.equals(";")) text.append(isBlank(token) ? " " : token);
        return text.toString().strip();
    }
}
