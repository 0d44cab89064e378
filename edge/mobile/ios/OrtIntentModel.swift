// Not run on a device, and not compiled: no Swift compiler with Apple's frameworks was at hand.
import Foundation
import OnnxRuntimeBindings

/// ort/float.ort or onnx/float.onnx of an export, through ONNX Runtime, with its Core ML provider or without.
public final class OrtIntentModel {
    private let environment: ORTEnv
    private let session: ORTSession
    private let tokenizer: Tokenizer
    private let labels: [String]
    private let tokens: Int

    /// - Parameters:
    ///   - tokens: as the export's manifest says.
    ///   - coreML: false for the CPU alone, which is what the BiLSTM is fastest on.
    public init(
        path: String, tokenizer: Tokenizer, labels: [String], tokens: Int, power: Power, coreML: Bool
    ) throws {
        let options = try ORTSessionOptions()
        try options.setIntraOpNumThreads(power == .fastSingleAnswer ? 2 : 1)
        let spin = power == .fastSingleAnswer ? "1" : "0"
        try options.addConfigEntry(withKey: "session.intra_op.allow_spinning", value: spin)
        if coreML {
            try options.appendCoreMLExecutionProvider(withOptionsV2: power.providerOptions)
        }
        environment = try ORTEnv(loggingLevel: .warning)
        session = try ORTSession(env: environment, modelPath: path, sessionOptions: options)
        self.tokenizer = tokenizer
        self.labels = labels
        self.tokens = tokens
    }

    /// Which intent `text` expresses.
    public func answer(_ text: String) throws -> Answer {
        let found = Array(tokenizer.encode(text).prefix(tokens))
        guard !found.isEmpty else { throw IntentError.noTokens(text) }
        // [PAD] is 0 in every vocabulary of the catalog.
        let ids = found + [Int32](repeating: 0, count: tokens - found.count)
        let inputs = [
            "ids": try Self.value(ids, shape: [1, NSNumber(value: tokens)]),
            "lengths": try Self.value([Int32(found.count)], shape: [1]),
        ]
        let outputs = try session.run(withInputs: inputs, outputNames: ["logits"], runOptions: nil)
        guard let data = try outputs["logits"]?.tensorData() as Data? else { throw IntentError.noOutput("logits") }
        return try Answer(logits: data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }, labels: labels)
    }

    private static func value(_ numbers: [Int32], shape: [NSNumber]) throws -> ORTValue {
        let data = numbers.withUnsafeBytes { NSMutableData(bytes: $0.baseAddress, length: $0.count) }
        return try ORTValue(tensorData: data, elementType: .int32, shape: shape)
    }
}
