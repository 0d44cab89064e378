// Not run on a device, and not compiled: no Swift compiler with Apple's frameworks was at hand.
import CoreML
import Foundation

/// coreml/fp16.mlpackage or coreml/int8.mlpackage of an export, through Core ML itself. iOS 17 or later.
public final class CoreMLIntentModel {
    private let model: MLModel
    private let tokenizer: Tokenizer
    private let labels: [String]
    private let tokens: Int

    /// - Parameters:
    ///   - compiled: the .mlmodelc that Xcode makes of the package in an app; `MLModel.compileModel(at:)` makes one of
    ///     a package that was downloaded.
    ///   - tokens: as the export's manifest says.
    public init(compiled: URL, tokenizer: Tokenizer, labels: [String], tokens: Int, power: Power) throws {
        self.model = try MLModel(contentsOf: compiled, configuration: power.configuration)
        self.tokenizer = tokenizer
        self.labels = labels
        self.tokens = tokens
    }

    /// Which intent `text` expresses.
    public func answer(_ text: String) throws -> Answer {
        let found = tokenizer.encode(text).prefix(tokens)
        guard !found.isEmpty else { throw IntentError.noTokens(text) }
        let ids = try MLMultiArray(shape: [1, NSNumber(value: tokens)], dataType: .int32)
        for place in 0..<tokens {
            // [PAD] is 0 in every vocabulary of the catalog; the memory of a new array is not.
            ids[place] = NSNumber(value: place < found.count ? found[found.startIndex + place] : 0)
        }
        let lengths = try MLMultiArray(shape: [1], dataType: .int32)
        lengths[0] = NSNumber(value: found.count)
        let inputs = try MLDictionaryFeatureProvider(dictionary: ["ids": ids, "lengths": lengths])
        guard let logits = try model.prediction(from: inputs).featureValue(for: "logits")?.multiArrayValue else {
            throw IntentError.noOutput("logits")
        }
        return try Answer(logits: (0..<logits.count).map { logits[$0].floatValue }, labels: labels)
    }
}
